//! How HTTP is served.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How HTTP is served, where a handler speaks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOptions {
    /// Requests that one connection may bring (10,000).
    pub requests: u64,
    /// How long a connection may wait for its next request (60 s).
    pub keep_alive: Option<Duration>,
    /// How old a connection may grow (1 h); what it has begun then, it ends.
    pub connection_time: Option<Duration>,
    /// How long the head of a request may take from its first byte (10 s).
    pub head_time: Option<Duration>,
    /// How large the head of a request may be, in bytes (64 KiB).
    pub head_size: usize,
    /// How large the body of a request may be, in bytes (any size).
    pub body_size: Option<u64>,
    /// Requests that one connection of HTTP/2 may have open at once (100).
    pub streams: u32,
    /// What becomes of `Forwarded` and `X-Forwarded-*`.
    pub forwarded: Forwarded,
    /// The name of a header that says who the client on a Unix socket is, as `pid=1,uid=0,gid=0`. One that comes from
    /// outside is always taken off.
    pub credentials_header: Option<String>,
    /// Whether each request leaves a line in the log, at `info`.
    pub access_log: Option<AccessLog>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            requests: 10_000,
            keep_alive: Some(Duration::from_secs(60)),
            connection_time: Some(Duration::from_secs(3600)),
            head_time: Some(Duration::from_secs(10)),
            head_size: 64 << 10,
            body_size: None,
            streams: 100,
            forwarded: Forwarded::Set,
            credentials_header: None,
            access_log: None,
        }
    }
}

/// What becomes of the headers that say for whom a request is passed on: `Forwarded` (RFC 7239), `X-Forwarded-For`,
/// `X-Forwarded-Host`, `X-Forwarded-Port` and `X-Forwarded-Proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forwarded {
    /// Those from outside are taken off, and the handler gets them anew, of the client that this server knows.
    Set,
    /// They are taken off.
    Strip,
    /// They are left as they came, for a proxy in front that can be trusted with them.
    Pass,
}

impl Forwarded {
    const ALL: [(&'static str, Self); 3] = [("set", Self::Set), ("strip", Self::Strip), ("pass", Self::Pass)];
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLog {
    /// The combined format of Apache's and nginx's.
    Combined,
    /// An object with the same and more.
    Json,
}

impl AccessLog {
    const ALL: [(&'static str, Self); 2] = [("combined", Self::Combined), ("json", Self::Json)];
}

macro_rules! named {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (name, _) = Self::ALL.iter().find(|(_, value)| value == self).expect("it is one of all");
                f.write_str(name)
            }
        }

        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|(name, _)| *name == text);
                let names = Self::ALL.map(|(name, _)| name).join(", ");
                found.map(|(_, value)| *value).ok_or_else(|| format!("'{text}' is none of {names}"))
            }
        }
    )*};
}

named!(Forwarded, AccessLog);
