//! What a handshake came to, for handlers, logs and counters.

use std::fmt;
use std::io;

use rustls::server::ServerConnection;
use rustls::{AlertDescription, CertificateError, Error, HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::identity::parse;
use super::names::names_of;
use crate::error::one_line;

/// How a connection is protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// The cipher suite, by its name at IANA.
    pub cipher_suite: String,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// The application protocol that was agreed on (ALPN).
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The client's certificate, which was verified, and what it sent to verify it by, in DER.
    pub client_certificates: Vec<Vec<u8>>,
}

impl TlsInfo {
    pub(crate) fn of(connection: &ServerConnection) -> Self {
        let protocol = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let suite = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        Self {
            protocol: protocol.to_owned(),
            // rustls marks those of TLS 1.3.
            cipher_suite: suite.unwrap_or_default().replace("TLS13_", "TLS_"),
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificates: connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        }
    }

    /// Whether it can be so: a process that runs guest code may say anything.
    pub(crate) fn is_sound(&self) -> bool {
        matches!(&*self.protocol, "TLSv1.2" | "TLSv1.3") && self.cipher_suite.len() <= 64
    }

    /// Whom the client's certificate is for: its subject as RFC 4514 writes it, then its alternative names.
    pub fn client_names(&self) -> Vec<String> {
        let first = self.client_certificates.first().map(|der| CertificateDer::from(der.as_slice()));
        let parsed = first.as_ref().and_then(|certificate| parse(certificate).ok());
        parsed.map(|certificate| names_of(&certificate).all()).unwrap_or_default()
    }
}

/// For the log.
impl fmt::Display for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, cipher_suite, server_name, resumed, .. } = self;
        write!(f, "{} {}", one_line(protocol), one_line(cipher_suite))?;
        if let Some(name) = server_name {
            write!(f, " {}", one_line(name))?;
        }
        if *resumed { f.write_str(" resumed") } else { Ok(()) }
    }
}

/// What a handshake failed of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFailure {
    /// The alert that ended it, by its name in RFC 8446; whoever found the fault has sent it.
    pub alert: Option<String>,
    /// What was wrong, in words.
    pub message: String,
}

/// Why a connection could not be protected, or is protected no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TlsError {
    /// The two did not come to terms.
    #[error("TLS handshake failed: {}{}", .0.message, .0.alert.as_ref().map(|alert| format!(" (alert {alert})")).unwrap_or_default())]
    HandshakeFailed(TlsFailure),
    /// The client's certificate is missing or not good.
    #[error("the client's certificate is refused: {0}")]
    CertificateRefused(String),
    /// The client's end of the connection came without notice, so that what it sent may be cut short.
    #[error("the client closed the connection without notice, so that what it sent may be cut short")]
    ClosedWithoutNotice,
    /// What the client had sent before is not to pass for protected.
    #[error("bytes had come in the clear that nobody has read")]
    UnprotectedBytes,
    /// There is nothing to show the client.
    #[error("{0}")]
    NoIdentity(String),
    /// It is protected already.
    #[error("the connection is protected already")]
    AlreadyProtected,
    /// A packet has no connection to protect.
    #[error("a datagram has no connection that TLS could protect")]
    Unsupported,
    /// The client did not finish the handshake in time.
    #[error("the client did not finish the TLS handshake in time")]
    TimedOut,
    /// The host could not do its part.
    #[error("{0}")]
    Host(String),
    /// The connection failed below it.
    #[error("the connection failed in the TLS handshake: {0}")]
    Connection(String),
}

impl TlsError {
    pub(crate) fn no_certificates() -> Self {
        Self::NoIdentity("the server was started without --tls".to_owned())
    }

    /// Its name, for counters.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::HandshakeFailed(_) => "handshake-failed",
            Self::CertificateRefused(_) => "certificate-refused",
            Self::ClosedWithoutNotice => "closed-without-notice",
            Self::UnprotectedBytes => "unprotected-bytes",
            Self::NoIdentity(_) => "no-identity",
            Self::AlreadyProtected => "already-protected",
            Self::Unsupported => "unsupported",
            Self::TimedOut => "timed-out",
            Self::Host(_) => "host",
            Self::Connection(_) => "connection",
        }
    }

    /// What rustls says, and the alert that it would send for it, if that is known.
    pub(crate) fn of(error: &Error, sent: Option<AlertDescription>) -> Self {
        let failed = |alert: Option<AlertDescription>, message: String| {
            Self::HandshakeFailed(TlsFailure { alert: alert.map(alert_name), message })
        };
        match error {
            Error::AlertReceived(alert) => {
                let refused = [
                    AlertDescription::BadCertificate,
                    AlertDescription::UnsupportedCertificate,
                    AlertDescription::CertificateRevoked,
                    AlertDescription::CertificateExpired,
                    AlertDescription::CertificateUnknown,
                    AlertDescription::UnknownCA,
                ];
                let message = match refused.contains(alert) {
                    true => "the client does not accept this server's certificate",
                    false => "the client gave up",
                };
                failed(Some(*alert), message.to_owned())
            }
            // By this a child's signer says that the host has not signed.
            Error::General(reason) => Self::Host(reason.clone()),
            // Sent under the handshake's keys.
            Error::NoApplicationProtocol => {
                failed(Some(AlertDescription::NoApplicationProtocol), error.to_string())
            }
            Error::NoCertificatesPresented => Self::CertificateRefused("it has shown none".to_owned()),
            Error::InvalidCertificate(reason) => Self::CertificateRefused(certificate_reason(reason)),
            error => failed(sent, error.to_string()),
        }
    }
}

fn certificate_reason(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "none of --tls-client-ca has issued it".to_owned(),
        error => error.to_string(),
    }
}

/// An operation on a protected connection that failed by what TLS says carries this.
impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match error {
            // As when it is reset: what came is not all.
            TlsError::ClosedWithoutNotice => io::ErrorKind::ConnectionAborted,
            TlsError::TimedOut => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// An alert's name as RFC 8446 writes it.
pub(crate) fn alert_name(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut snake = String::with_capacity(name.len() + 4);
    let is_upper = |index: usize| name.as_bytes().get(index).is_none_or(u8::is_ascii_uppercase);
    for (index, character) in name.char_indices() {
        let begins_word = |before: usize| !is_upper(before) || !is_upper(index + 1);
        if is_upper(index) && index.checked_sub(1).is_some_and(begins_word) {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::UnknownPSKIdentity, "unknown_psk_identity"),
            (AlertDescription::BadRecordMac, "bad_record_mac"),
            (AlertDescription::NoApplicationProtocol, "no_application_protocol"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }
}
