//! A say in how the server runs: the methods of `socketserver.BaseServer` that a subclass overrides.

pub use crate::bindings::hooks::exports::plugsock::handler::server_hooks::{Failure, Phase};

use std::fmt;

use crate::{Request, ServerInfo};

/// What a handler may export besides. Each call gets an instance of the component of its own.
///
/// ```
/// use plugsock_sdk::{Request, RequestHandler, Result, ServerHooks, export};
///
/// #[derive(Default)]
/// struct LocalOnly;
///
/// impl RequestHandler for LocalOnly {
///     fn handle(&mut self, request: &Request) -> Result {
///         Ok(request.send(b"welcome\n")?)
///     }
/// }
///
/// impl ServerHooks for LocalOnly {
///     fn verify_request(request: &Request) -> bool {
///         request.client_address().ip().is_some_and(|ip| ip.ip().is_loopback())
///     }
/// }
///
/// export!(LocalOnly: RequestHandler + ServerHooks);
/// ```
#[expect(unused_variables, reason = "what does nothing by default still names its parameters")]
pub trait ServerHooks {
    /// Whether to serve the request. A datagram can be read here, and will be read again by the handler; a
    /// stream cannot be read or written yet.
    fn verify_request(request: &Request) -> bool {
        true
    }

    /// A request failed.
    fn handle_error(server: &ServerInfo, failure: &Failure) {}

    /// The server's `timeout` passed without a request.
    fn handle_timeout(server: &ServerInfo) {}

    /// Runs between requests, at least about twice a second.
    fn service_actions(server: &ServerInfo) {}
}

/// `verify`, `setup`, `handle` or `finish`.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Verify => "verify",
            Phase::Setup => "setup",
            Phase::Handle => "handle",
            Phase::Finish => "finish",
        })
    }
}
