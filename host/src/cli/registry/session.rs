//! One dealing with a registry: what is asked, bounded in size and time, tried again where that may help, and never by
//! plain HTTP unless that was allowed.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use plugsock::without_password;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use tokio::time::{Instant, sleep, timeout};

use super::failure::Failure;
use super::reference::OciReference;
use super::token::Access;
use super::{PlainHttp, Registry};

/// How long to wait for a connection, and for a further part of an answer.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const STALL_TIME: Duration = Duration::from_secs(30);

/// The pauses between attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// As many redirects as are followed.
const REDIRECTS_MAX: usize = 5;

/// The most that is read of a refusal.
const REFUSAL_MAX: u64 = 16 << 10;

pub struct Session<'a> {
    pub registry: &'a Registry,
    pub reference: &'a OciReference,
    pub access: Access,
    pub client: Client,
    deadline: Instant,
    /// What it is at, for whoever waits in vain.
    doing: Cell<&'static str>,
}

/// What is asked of a registry.
pub struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(reqwest::header::HeaderName, &'a str)>,
    pub body: Bytes,
    /// The most that the answer may be.
    pub most: u64,
}

impl Ask<'_> {
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new(), most: REFUSAL_MAX }
    }
}

impl<'a> Ask<'a> {
    pub fn get(url: Url, accept: &'a str, most: u64) -> Self {
        Self { headers: vec![(ACCEPT, accept)], most, ..Self::new(Method::GET, url) }
    }

    pub fn with(self, content_type: &'a str, body: Bytes) -> Self {
        Self { headers: vec![(CONTENT_TYPE, content_type)], body, ..self }
    }
}

/// A whole answer.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub url: Url,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl<'a> Session<'a> {
    pub fn new(
        registry: &'a Registry,
        reference: &'a OciReference,
        access: Access,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let plain = registry.options.plain_http.clone();
        let client = Client::builder()
            .tls_backend_preconfigured(registry.tls().clone())
            .connect_timeout(CONNECT_TIME.min(registry.options.timeout))
            .redirect(redirect::Policy::custom(move |attempt| match refuse_redirect(&attempt, &plain) {
                Some(reason) => attempt.error(reason),
                None => attempt.follow(),
            }))
            .referer(false)
            .user_agent(concat!("plugsock/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::transport(&error))?;
        Ok(Self { registry, reference, access, client, deadline, doing: Cell::new("ask the registry") })
    }

    /// Says what it is at from now on.
    pub fn begin(&self, doing: &'static str) {
        self.doing.set(doing);
    }

    pub fn doing(&self) -> &'static str {
        self.doing.get()
    }

    /// An address below the repository's.
    pub fn url(&self, rest: &str) -> Result<Url, Failure> {
        let (host, repository) = (self.reference.host(), self.reference.repository());
        let scheme = if self.registry.options.plain_http.covers_host(host) { "http" } else { "https" };
        let url = format!("{scheme}://{host}/v2/{repository}/{rest}");
        Url::parse(&url).map_err(|error| Failure::lasting(format!("{url} is no address: {error}")))
    }

    /// The answer to what is asked, which is not a refusal.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let failure = match self.authorized(ask).await {
                Ok(reply) if reply.status.is_success() => return Ok(reply),
                Ok(reply) => Failure::refused(&reply),
                Err(failure) => failure,
            };
            let (Some(after), Some(pause)) = (failure.retry, pauses.next()) else { return Err(failure) };
            let pause = after.unwrap_or_else(|| jittered(pause));
            if Instant::now() + pause >= self.deadline {
                return Err(failure);
            }
            tracing::debug!("{}: cannot {}: {}; trying again", self.reference, self.doing(), failure.reason);
            sleep(pause).await;
        }
    }

    /// Asks, as whom the registry wants to see.
    async fn authorized(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        // What is elsewhere, a place to upload to for instance, is not to learn who asks.
        let is_the_registrys = self.url("").is_ok_and(|own| own.origin() == ask.url.origin());
        if !is_the_registrys {
            return self.once(ask, None).await;
        }
        let known = self.registry.known_authorization(self);
        let reply = self.once(ask, known.as_ref()).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        let authorization = self.authorize(&reply).await?;
        let reply = self.once(ask, Some(&authorization)).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            return Err(self.not_let_in(Some(&reply)).await);
        }
        self.registry.remember_authorization(self, authorization);
        Ok(reply)
    }

    /// Asks once, and reads the answer no further than it may be long.
    pub async fn once(&self, ask: &Ask<'_>, authorization: Option<&HeaderValue>) -> Result<Reply, Failure> {
        if !self.registry.options.plain_http.allows(&ask.url) {
            return Err(Failure::lasting(format!(
                "{} is plain HTTP, which is not allowed: --registry-plain-http would allow it",
                shown_url(&ask.url)
            )));
        }
        let mut request = self.client.request(ask.method.clone(), ask.url.clone());
        for (name, value) in &ask.headers {
            request = request.header(name, *value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let sent = request.body(ask.body.clone()).send();
        // An upload is as long as it is; the deadline ends it.
        let answered = match ask.body.is_empty() {
            true => timeout(STALL_TIME, sent).await.map_err(|_| stalled())?,
            false => sent.await,
        };
        let mut response = answered.map_err(|error| Failure::transport(&error))?;
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let most = if status.is_success() { ask.most } else { REFUSAL_MAX };
        let length = response.content_length().filter(|_| ask.method != Method::HEAD);
        if status.is_success() && length.is_some_and(|length| length > most) {
            return Err(too_much(most));
        }
        let mut body = Vec::with_capacity(length.unwrap_or_default().min(most) as usize);
        loop {
            let part = timeout(STALL_TIME, response.chunk()).await.map_err(|_| stalled())?;
            let part = part.map_err(|error| {
                let so_far = body.len();
                Failure::passing(format!(
                    "it broke off after {so_far} bytes: {}",
                    Failure::transport(&error).reason
                ))
            })?;
            let Some(part) = part else { break };
            if (body.len() + part.len()) as u64 > most {
                if status.is_success() {
                    return Err(too_much(most));
                }
                // Its beginning says enough.
                break;
            }
            body.extend_from_slice(&part);
        }
        Ok(Reply { status, headers, url, body })
    }
}

fn stalled() -> Failure {
    Failure::passing(format!("it says nothing for {STALL_TIME:?}"))
}

fn too_much(most: u64) -> Failure {
    Failure::lasting(format!("it sends more than {most} bytes, and that is the most that this may be"))
}

/// Why a redirect is not followed.
fn refuse_redirect(attempt: &redirect::Attempt<'_>, plain: &PlainHttp) -> Option<String> {
    let url = shown_url(attempt.url());
    if attempt.previous().len() > REDIRECTS_MAX {
        return Some(format!("it redirects more than {REDIRECTS_MAX} times, at last to {url}"));
    }
    (!plain.allows(attempt.url())).then(|| {
        format!(
            "it redirects to {url}, which is plain HTTP and not allowed: --registry-plain-http would allow it"
        )
    })
}

/// Without a query or a password, which are secrets.
fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    without_password(url.as_str())
}

/// About as long, so that many who wait for the same do not come at once.
pub fn jittered(time: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = RandomState::new().build_hasher().finish() % 512;
    time.mul_f64(0.75 + random as f64 / 1024.0)
}
