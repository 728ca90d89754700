//! What is noted above a message: its envelope, and how it came (RFC 5321, 4.4).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use plugsock_sdk::TlsInfo;

use crate::date::date;
use crate::session::Envelope;

/// How a message came.
pub struct Trace<'a> {
    /// What the client calls itself.
    pub name: &'a str,
    /// Whether it said EHLO.
    pub extended: bool,
    /// Nothing on a Unix socket.
    pub client: Option<SocketAddr>,
    pub server: &'a str,
    pub tls: Option<&'a TlsInfo>,
}

impl Trace<'_> {
    /// The lines for a message that is kept under this name. Nothing in them can be a line's end, since neither
    /// names nor addresses have one.
    pub fn header(&self, envelope: &Envelope, kept_as: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.header_at(now.as_secs(), envelope, kept_as)
    }

    fn header_at(&self, seconds: u64, envelope: &Envelope, kept_as: &str) -> String {
        let mut header = format!("Return-Path: <{}>\n", envelope.from);
        for to in &envelope.to {
            _ = writeln!(header, "Delivered-To: {to}");
        }
        let client = self.client.map_or("a Unix socket".to_owned(), |client| literal(client.ip()));
        let protocol = match (self.extended, self.tls) {
            (_, Some(tls)) => format!("ESMTPS ({} {})", tls.protocol, tls.cipher_suite),
            (true, None) => "ESMTP".to_owned(),
            (false, None) => "SMTP".to_owned(),
        };
        let (name, server, date) = (self.name, self.server, date(seconds));
        _ = write!(
            header,
            "Received: from {name} ({client})\n\tby {server} with {protocol}\n\tid {kept_as}; {date}\n"
        );
        header
    }
}

/// An address where a name could stand: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
pub fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A connection's protection.
    pub fn protected() -> TlsInfo {
        TlsInfo {
            protocol: "TLSv1.3".to_owned(),
            cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
            server_name: None,
            alpn: None,
            resumed: false,
            client_certificates: Vec::new(),
            client_names: Vec::new(),
        }
    }

    #[test]
    fn the_header_says_how_a_message_came() {
        let tls = protected();
        let client = "[2001:db8::1]:4000".parse().ok();
        let envelope = Envelope { from: String::new(), to: vec!["a@b".into(), "c@d".into()] };
        let trace = Trace { name: "e", extended: true, client, server: "f", tls: Some(&tls) };
        assert_eq!(
            trace.header_at(0, &envelope, "1.g"),
            "Return-Path: <>\nDelivered-To: a@b\nDelivered-To: c@d\n\
             Received: from e ([IPv6:2001:db8::1])\n\
             \tby f with ESMTPS (TLSv1.3 TLS_AES_128_GCM_SHA256)\n\
             \tid 1.g; Thu, 1 Jan 1970 00:00:00 +0000\n"
        );
        let trace = Trace { extended: false, client: None, tls: None, ..trace };
        assert!(trace.header_at(0, &envelope, "1.g").contains("from e (a Unix socket)\n\tby f with SMTP\n"));
    }
}
