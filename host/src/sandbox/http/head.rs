//! The head of a request before its guest sees it: what is refused, and what is said of who asks.

use std::net::SocketAddr;

use http::header::{
    CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version};

use crate::address::SocketAddress;
use crate::error::excerpt;
use crate::http_options::{Forwarded, HttpOptions};
use crate::request::UnixCredentials;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const ALL_FORWARDED: [HeaderName; 5] =
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO];

/// Where the requests of one connection come from.
pub(super) struct Origin {
    pub(super) client: SocketAddress,
    pub(super) credentials: Option<UnixCredentials>,
    pub(super) local: SocketAddress,
    pub(super) is_tls: bool,
    said: Said,
}

/// What is said of a client in the headers of all its requests.
struct Said {
    /// In `X-Forwarded-For`.
    ip: Option<HeaderValue>,
    /// In `X-Forwarded-Port`.
    port: Option<HeaderValue>,
    /// In `Forwarded`.
    client: String,
}

impl Origin {
    pub(super) fn new(
        client: SocketAddress,
        credentials: Option<UnixCredentials>,
        local: SocketAddress,
        is_tls: bool,
    ) -> Self {
        let said = Said::of(&client, &local);
        Self { client, credentials, local, is_tls, said }
    }

    /// By which protocol its requests come, as URLs have it.
    pub(super) fn proto(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

impl Said {
    fn of(client: &SocketAddress, local: &SocketAddress) -> Self {
        let port = match local {
            SocketAddress::Inet(local) => Some(HeaderValue::from(local.port())),
            SocketAddress::Unix(_) => None,
        };
        match client {
            SocketAddress::Inet(address) => {
                let ip = address.ip().to_canonical();
                let value = ip.to_string().parse().expect("an address is a header's value");
                // RFC 7239 has addresses with a port, and those of IPv6, in quotes.
                let client = format!("\"{}\"", SocketAddr::new(ip, address.port()));
                Self { ip: Some(value), port, client }
            }
            SocketAddress::Unix(_) => Self { ip: None, port, client: "unknown".to_owned() },
        }
    }
}

/// Why a request is answered without a guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

impl Refusal {
    /// Whether it is no request as it should be.
    pub(super) fn is_malformed(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
    }

    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

/// Whether it is sure where a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sound,
    /// Its head came together with another request's; nothing that follows it is to be believed.
    Unknown,
}

/// As many headers as hyper takes.
const HEADERS_MAX: usize = 100;

/// Whether a request with a `Transfer-Encoding` can be trusted to end where it says so. One that gives a length besides is to be
/// refused, since whoever is between may have believed the other (RFC 9112, 6.1). hyper does not let on, so `head`, what has come
/// since the request before, is read once more.
pub(super) fn check_framing<B>(
    request: &Request<B>,
    head: impl FnOnce() -> Vec<u8>,
) -> Result<Framing, Refusal> {
    if !request.headers().contains_key(TRANSFER_ENCODING) {
        return Ok(Framing::Sound);
    }
    let head = head();
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let is_whole = parsed.parse(&head).is_ok_and(|status| status.is_complete());
    if !is_whole || parsed.headers.len() < request.headers().len() {
        return Ok(Framing::Unknown);
    }
    match parsed.headers.iter().any(|header| header.name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str())) {
        true => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the request has both a Content-Length and a Transfer-Encoding",
        )),
        false => Ok(Framing::Sound),
    }
}

/// Checks what hyper leaves to its server, and makes the headers what the operator says.
pub(super) fn prepare<B>(
    request: &mut Request<B>,
    origin: &Origin,
    options: &HttpOptions,
) -> Result<(), Refusal> {
    refuse(request, options)?;
    let authority = authority(request, origin)?;
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, authority.clone());
    }
    let headers = request.headers_mut();
    if let Some(name) = options.credentials_header.as_deref().and_then(|name| name.parse::<HeaderName>().ok())
    {
        headers.remove(&name);
        headers.extend(origin.credentials.and_then(credentials).map(|value| (name, value)));
    }
    if options.forwarded != Forwarded::Pass {
        ALL_FORWARDED.iter().for_each(|name| drop(headers.remove(name)));
    }
    if options.forwarded == Forwarded::Set {
        set_forwarded(headers, origin, authority);
    }
    Ok(())
}

fn refuse<B>(request: &Request<B>, options: &HttpOptions) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "this server opens no tunnels"));
    }
    // Whoever offers HTTP/2 in this way goes on with HTTP/1.1 where it is not taken.
    if let Some(wanted) = request.headers().get(UPGRADE).filter(|wanted| *wanted != "h2c") {
        let wanted = excerpt(&String::from_utf8_lossy(wanted.as_bytes()));
        let reason = format!("this server does not upgrade connections to {wanted}");
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, reason));
    }
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let (Some(length), Some(max)) = (length, options.body_size)
        && u64::gt(&length, &max)
    {
        let reason = format!("the body of a request may have {max} bytes, and this one has {length}");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    Ok(())
}

/// Whom the client believes that it asks.
fn authority<B>(request: &Request<B>, origin: &Origin) -> Result<HeaderValue, Refusal> {
    let bad = |reason| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(bad("the request has several Host headers")),
        (host, None) => host,
    };
    if let Some(host) = host
        && !host.is_empty()
        && Authority::try_from(host.as_bytes()).map_or(true, |host| host.as_str().contains('@'))
    {
        return Err(bad("the request's Host is neither a name nor an address"));
    }
    let named = request.uri().authority().and_then(|authority| authority.as_str().parse().ok());
    match named.or_else(|| host.cloned()) {
        Some(authority) => Ok(authority),
        None if request.version() == Version::HTTP_11 => Err(bad("the request has no Host header")),
        // HTTP/1.0 need not say.
        None => Ok(match &origin.local {
            SocketAddress::Inet(local) => local.to_string().parse().expect("an address is a header's value"),
            SocketAddress::Unix(_) => HeaderValue::from_static("localhost"),
        }),
    }
}

fn credentials(UnixCredentials { pid, uid, gid }: UnixCredentials) -> Option<HeaderValue> {
    let pid = pid.map_or(String::new(), |pid| format!("pid={pid},"));
    format!("{pid}uid={uid},gid={gid}").parse().ok()
}

fn set_forwarded(headers: &mut HeaderMap, origin: &Origin, authority: HeaderValue) {
    let Said { ip, port, client } = &origin.said;
    let proto = origin.proto();
    headers.reserve(ALL_FORWARDED.len());
    headers.extend(ip.clone().map(|ip| (X_FORWARDED_FOR, ip)));
    headers.extend(port.clone().map(|port| (X_FORWARDED_PORT, port)));
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    let host = authority.to_str().unwrap_or_default();
    // A name with a port, and an address of IPv6, is no token.
    if let Ok(forwarded) = HeaderValue::try_from(format!("for={client};host=\"{host}\";proto={proto}")) {
        headers.insert(FORWARDED, forwarded);
    }
    headers.insert(X_FORWARDED_HOST, authority);
}
