//! What a program that embeds a server may override: the methods that `socketserver` invites to.

use std::time::Duration;

use crate::error::RequestError;
use crate::request::Request;

/// The overridable methods of `socketserver.BaseServer`, by their names there. All do nothing by default.
///
/// They run on the accepting thread, except `handle_error` and `close_request`, which run where the request
/// was served. One that panics is said in the log, and counts as if it did nothing, or as a refusal.
pub trait ServerHooks: Send + Sync {
    /// Whether to serve the request. Runs before it costs a thread, a process or an instance.
    fn verify_request(&self, _request: &Request) -> bool {
        true
    }

    /// A request failed; the log has said so already.
    fn handle_error(&self, _request: &Request, _error: &RequestError) {}

    /// The server's `timeout` passed without a request.
    fn handle_timeout(&self) {}

    /// How often `service_actions` runs at least, while no request comes; `None` if it need not run.
    fn service_interval(&self) -> Option<Duration> {
        None
    }

    /// Runs between requests.
    fn service_actions(&self) {}

    /// The request is over and about to be closed, served or not.
    fn close_request(&self, _request: &Request) {}
}

/// Overrides nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl ServerHooks for NoHooks {}

/// Runs what the embedding program may have written, or what one request may bring about: its panic must not take the
/// thread that serves others with it. `None` if it panicked.
pub(crate) fn isolated<T>(what: &str, run: impl FnOnce() -> T) -> Option<T> {
    // What the panic may have left half-done belongs to the request, which ends.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .inspect_err(|_| tracing::error!("{what} panicked; what it was about is given up"))
        .ok()
}
