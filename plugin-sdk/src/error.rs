//! Errors: what a handler fails with, and the contract's own.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};

use crate::{Error, TlsError};

/// Why a request failed, in words for the host's report. `?` makes one of any error, with all its causes.
pub struct HandlerError(String);

/// What `setup`, `handle` and `finish` return.
///
/// ```
/// # use plugsock_sdk::{HandlerError, Result};
/// fn port(line: &str) -> Result<u16> {
///     let Some((_, port)) = line.split_once(':') else {
///         return Err(HandlerError::new("the line has no port"));
///     };
///     Ok(port.parse()?)
/// }
/// assert_eq!(port("localhost").unwrap_err().to_string(), "the line has no port");
/// ```
pub type Result<T = (), E = HandlerError> = std::result::Result<T, E>;

impl HandlerError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        HandlerError(message.into())
    }
}

/// The words are made here, where the error's type is known: a boxed error would bring its `Debug` into
/// every component, and that is a quarter of a small one.
impl<E: StdError + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        // Asked of its own type alone: then only handlers that use TLS have its words in them.
        let mut message = match (&error as &dyn Any).downcast_ref::<TlsError>() {
            Some(error) => error.message().into_owned(),
            None => in_words(&error),
        };
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&in_words(error));
            cause = error.source();
        }
        HandlerError(message)
    }
}

impl From<HandlerError> for String {
    fn from(error: HandlerError) -> Self {
        error.0
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error {
    /// The error in words. (`Display` is the binding generator's, and prints the variant.)
    pub fn message(&self) -> &str {
        match self {
            Error::Closed => "the connection is closed",
            Error::TimedOut => "timed out",
            Error::Reset => "the client reset the connection",
            Error::MessageTooLarge => "the datagram is too large for its transport",
            Error::NoReplyAddress => "the client's socket has no name, so it cannot be answered",
            Error::NotPermitted => "the server was not granted this",
            Error::Unsupported => "this server type has no such operation",
            Error::Other(words) => words,
        }
    }

    /// The standard library's nearest kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Closed => ErrorKind::BrokenPipe,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::Reset => ErrorKind::ConnectionReset,
            Error::MessageTooLarge => ErrorKind::InvalidInput,
            Error::NoReplyAddress => ErrorKind::NotConnected,
            Error::NotPermitted => ErrorKind::PermissionDenied,
            Error::Unsupported => ErrorKind::Unsupported,
            Error::Other(_) => ErrorKind::Other,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error.message())
    }
}

fn in_words(error: &(dyn StdError + 'static)) -> String {
    match error.downcast_ref::<Error>() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot answer")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_report_names_every_cause_in_words() {
        let report = |error: HandlerError| String::from(error);
        assert_eq!(report(Error::Closed.into()), "the connection is closed");
        assert_eq!(report(Outer(Error::TimedOut).into()), "cannot answer: timed out");
        assert_eq!(report(io::Error::from(Error::TimedOut).into()), "timed out");
    }
}
