//! What a conversation goes over.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Transport {
    Tcp,
    Udp,
    /// TLS 1.3, with a full handshake for each connection.
    Tls,
    /// The same, but each connection after a client's first resumes a session.
    TlsResumed,
    /// HTTP/1.1, with a request for each message.
    Http,
}

impl Transport {
    /// What stands before a contender's address.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp | Self::Http => "tcp",
            Self::Udp => "udp",
            Self::Tls | Self::TlsResumed => "tls",
        }
    }

    /// As the roles are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsResumed => "tls-resumed",
            Self::Http => "http",
            other => other.scheme(),
        }
    }
}
