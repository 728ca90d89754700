//! TLS: a connection that becomes protected while it is served, and what may go wrong with that, in words.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, ErrorKind};

use crate::{Error, Request, ShutdownHow, StreamRequest, TlsError, TlsInfo};

impl StreamRequest<'_> {
    /// Protects the connection by TLS, as its server. From here on `rfile` and `wfile` are of the protected connection.
    ///
    /// What `wfile` holds is sent first, in the clear. Nothing that the client said in the clear may count as protected:
    /// if `rfile` holds anything, it is thrown away, and the connection is over ([`TlsError::UnprotectedBytes`]).
    ///
    /// `identity` names one of the server's certificates; with none it is the one for the name that the client asks for.
    /// `alpn` are the application protocols that the handler speaks, the preferred first.
    ///
    /// From here on an error of `rfile` or `wfile` also says what was wrong with the protection.
    ///
    /// ```no_run
    /// use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, TlsError, export};
    /// use std::io::{BufRead, Write};
    ///
    /// #[derive(Default)]
    /// struct Secret;
    ///
    /// impl StreamRequestHandler for Secret {
    ///     fn setup(&mut self, request: &mut StreamRequest) -> Result {
    ///         match request.start_tls(None, &[]) {
    ///             // Its server has protected it already.
    ///             Ok(_) | Err(TlsError::AlreadyProtected) => Ok(()),
    ///             Err(error) => Err(error.into()),
    ///         }
    ///     }
    ///
    ///     fn handle(&mut self, request: &mut StreamRequest) -> Result {
    ///         let mut line = String::new();
    ///         request.rfile.read_line(&mut line)?;
    ///         Ok(request.wfile.write_all(line.as_bytes())?)
    ///     }
    /// }
    ///
    /// export!(Secret: StreamRequestHandler);
    /// ```
    pub fn start_tls(&mut self, identity: Option<&str>, alpn: &[&str]) -> Result<TlsInfo, TlsError> {
        EXPLAIN.set(explain);
        self.wfile.send_held().map_err(TlsError::Connection)?;
        if !self.rfile.buffer().is_empty() {
            if self.connection.tls().is_some() {
                return Err(TlsError::AlreadyProtected);
            }
            self.rfile.clear();
            // Over it is in any case.
            let _ = self.connection.shutdown(ShutdownHow::Both);
            return Err(TlsError::UnprotectedBytes);
        }
        let alpn: Vec<String> = alpn.iter().map(|&protocol| protocol.to_owned()).collect();
        self.connection.start_tls(identity, &alpn)
    }
}

impl TlsError {
    /// The error in words. (`Display` is the binding generator's, and prints the variant.)
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            TlsError::HandshakeFailed(failure) => match &failure.alert {
                Some(alert) => format!("the TLS handshake failed: {} ({alert})", failure.message).into(),
                None => format!("the TLS handshake failed: {}", failure.message).into(),
            },
            TlsError::CertificateRefused(why) => format!("the client's certificate is refused: {why}").into(),
            TlsError::ClosedWithoutNotice => {
                "the client closed the connection without notice, so that its data may be cut short".into()
            }
            TlsError::UnprotectedBytes => "the client sent data in the clear where TLS was to begin".into(),
            TlsError::NoIdentity(why) => format!("the server has no certificate for this: {why}").into(),
            TlsError::AlreadyProtected => "the connection is protected already".into(),
            TlsError::Connection(error) => error.message().into(),
        }
    }

    /// The standard library's nearest kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TlsError::ClosedWithoutNotice => ErrorKind::UnexpectedEof,
            TlsError::Connection(error) => error.kind(),
            _ => ErrorKind::InvalidData,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::new(error.kind(), error.message())
    }
}

thread_local! {
    /// What makes an error of `rfile` or `wfile`. Only `start_tls` names the one that knows of TLS, so that the linker
    /// leaves it out of all handlers that never do.
    static EXPLAIN: Cell<fn(&Request, Error) -> io::Error> = const { Cell::new(as_it_is) };
}

/// The error of an operation on the request.
pub(crate) fn failed(request: &Request, error: Error) -> io::Error {
    EXPLAIN.get()(request, error)
}

fn as_it_is(_: &Request, error: Error) -> io::Error {
    error.into()
}

fn explain(request: &Request, error: Error) -> io::Error {
    match request.tls_error() {
        Some(why) => why.into(),
        None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HandlerError, TlsFailure};

    #[test]
    fn errors_say_what_is_wrong() {
        let failure = TlsFailure { alert: Some("protocol_version".into()), message: "too old".into() };
        for (error, message) in [
            (TlsError::HandshakeFailed(failure), "the TLS handshake failed: too old (protocol_version)"),
            (TlsError::CertificateRefused("expired".into()), "the client's certificate is refused: expired"),
            (TlsError::Connection(Error::TimedOut), "timed out"),
        ] {
            assert_eq!(error.message(), message);
            assert_eq!(String::from(HandlerError::from(error)), message);
        }
    }

    #[test]
    fn a_missing_end_is_told_from_bad_data() {
        assert_eq!(io::Error::from(TlsError::ClosedWithoutNotice).kind(), ErrorKind::UnexpectedEof);
        assert_eq!(io::Error::from(TlsError::Connection(Error::TimedOut)).kind(), ErrorKind::TimedOut);
        let error = io::Error::from(TlsError::UnprotectedBytes);
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(error.to_string(), TlsError::UnprotectedBytes.message());
    }
}
