//! Where connections go, as it is written.

use std::fmt;

use plugsock_sdk::{HandlerError, Result};

/// `HOST:PORT` or `tls://HOST:PORT`.
pub struct Target<'a> {
    text: &'a str,
    /// A name or an address; without the brackets of one of IPv6.
    pub host: &'a str,
    pub port: u16,
    pub is_tls: bool,
}

impl<'a> Target<'a> {
    pub fn parse(text: &'a str) -> Result<Self> {
        let tls = text.strip_prefix("tls://");
        let parts = tls.unwrap_or(text).rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| {
            HandlerError::new(format!("cannot connect to {text}: it is not HOST:PORT or tls://HOST:PORT"))
        })?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self { text, host, port, is_tls: tls.is_some() })
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}
