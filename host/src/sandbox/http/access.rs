//! The access log: one line for each request, when its answer has been sent or given up.

use std::time::Instant;

use http::header::{HeaderName, REFERER, USER_AGENT};
use http::{HeaderMap, Request};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::answer::Sent;
use super::head::Origin;
use crate::address::SocketAddress;
use crate::error::{excerpt, one_line};
use crate::http_options::AccessLog;

/// As Apache writes it.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// As nginx has it: the client has given its request up before there was an answer.
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What is said of one request when this is dropped.
#[derive(Serialize)]
pub(super) struct AccessLine {
    #[serde(skip)]
    format: AccessLog,
    #[serde(skip)]
    begun: Instant,
    #[serde(skip)]
    time: OffsetDateTime,
    client: String,
    method: String,
    target: String,
    protocol: String,
    host: Option<String>,
    pub(super) status: u16,
    bytes: u64,
    is_whole: bool,
    seconds: f64,
    referer: Option<String>,
    user_agent: Option<String>,
}

impl AccessLine {
    pub(super) fn of<B>(format: AccessLog, request: &Request<B>, origin: &Origin) -> Self {
        let client = match &origin.client {
            SocketAddress::Inet(address) => address.ip().to_canonical().to_string(),
            SocketAddress::Unix(_) => "-".to_owned(),
        };
        let (uri, headers) = (request.uri(), request.headers());
        let authority = uri.authority().map(|authority| authority.as_str().to_owned());
        Self {
            format,
            begun: Instant::now(),
            time: OffsetDateTime::now_utc(),
            client,
            method: request.method().to_string(),
            target: excerpt(uri.path_and_query().map_or("-", |target| target.as_str())),
            protocol: format!("{:?}", request.version()),
            host: authority.or_else(|| text(headers, http::header::HOST)),
            status: CLIENT_CLOSED_REQUEST,
            bytes: 0,
            is_whole: false,
            seconds: 0.0,
            referer: text(headers, REFERER),
            user_agent: text(headers, USER_AGENT),
        }
    }

    pub(super) fn note(&mut self, sent: &Sent) {
        (self.bytes, self.is_whole) = (sent.bytes, sent.is_whole);
    }

    fn line(&self) -> String {
        match self.format {
            AccessLog::Json => serde_json::to_string(self).unwrap_or_default(),
            AccessLog::Combined => format!(
                "{} - - [{}] \"{} {} {}\" {} {} \"{}\" \"{}\"",
                self.client,
                self.time.format(TIME).unwrap_or_default(),
                quoted(Some(&self.method)),
                quoted(Some(&self.target)),
                self.protocol,
                self.status,
                self.bytes,
                quoted(self.referer.as_deref()),
                quoted(self.user_agent.as_deref()),
            ),
        }
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        self.seconds = self.begun.elapsed().as_secs_f64();
        tracing::info!(target: "access", "{}", self.line());
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| excerpt(&String::from_utf8_lossy(value.as_bytes())))
}

/// A client's words, which must not pass for the end of a field.
fn quoted(text: Option<&str>) -> String {
    text.map_or("-".to_owned(), |text| one_line(text).replace('\\', "\\\\").replace('"', "\\\""))
}
