//! How a server serves.

use std::sync::Arc;
use std::time::Duration;

use crate::clients::ClientLimits;
use crate::concurrency::Concurrency;
use crate::http_options::HttpOptions;
use crate::job::{NoHooks, ServerHooks};
use crate::listener::SocketOptions;
use crate::tls::Tls;
use crate::traces::Traces;

/// How a server serves; the names are `socketserver`'s.
pub struct ServerOptions {
    /// What the log and handlers call it; by default its address.
    pub name: Option<String>,
    /// Where requests are served.
    pub concurrency: Concurrency,
    /// Whom it serves, how many of them at once, and how often.
    pub clients: ClientLimits,
    /// What its connections can be protected with.
    pub tls: Option<Tls>,
    /// How it serves HTTP, to handlers that speak it.
    pub http: HttpOptions,
    /// How its socket is made.
    pub socket: SocketOptions,
    /// How long `handle_request` waits, and after how long without a request `handle_timeout` runs; for ever
    /// by default, but 300 s with [`Concurrency::Forking`], as in `socketserver`.
    pub timeout: Option<Duration>,
    /// Whether to listen at once, or only with [`Server::server_activate`] (true).
    pub bind_and_activate: bool,
    /// Whether to measure what requests take, for [`metrics`](crate::metrics): the clock is then read a few times for each
    /// (false).
    pub measure: bool,
    /// Where spans of its requests go, which are then measured, too (nowhere).
    pub traces: Option<Traces>,
    /// What the embedding program overrides.
    pub hooks: Arc<dyn ServerHooks>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: None,
            concurrency: Concurrency::default(),
            clients: ClientLimits::default(),
            tls: None,
            http: HttpOptions::default(),
            socket: SocketOptions::default(),
            timeout: None,
            bind_and_activate: true,
            measure: false,
            traces: None,
            hooks: Arc::new(NoHooks),
        }
    }
}
