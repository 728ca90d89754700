//! The handler that the others build on: `BaseRequestHandler`.

use crate::{Request, Result};

/// Serves one request through the bare [`Request`]: `BaseRequestHandler` of `socketserver`.
///
/// ```
/// use plugsock_sdk::{Request, RequestHandler, Result, export};
///
/// #[derive(Default)]
/// struct Discard;
///
/// impl RequestHandler for Discard {
///     fn handle(&mut self, request: &Request) -> Result {
///         while !request.recv(64 * 1024)?.is_empty() {}
///         Ok(())
///     }
/// }
///
/// export!(Discard: RequestHandler);
/// ```
#[expect(unused_variables, reason = "what does nothing by default still names its parameters")]
pub trait RequestHandler: Default {
    /// Prepares; after an error neither `handle` nor `finish` runs.
    fn setup(&mut self, request: &Request) -> Result {
        Ok(())
    }

    /// Serves the request.
    fn handle(&mut self, request: &Request) -> Result;

    /// Cleans up; runs after `handle` has failed, too.
    fn finish(&mut self, request: &Request) -> Result {
        Ok(())
    }
}
