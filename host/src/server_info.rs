//! What a server is, for everything that says so: handlers, logs, fork servers.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::address::{ServeAddress, ServerType, SocketAddress, UnixAddress};
use crate::http_options::HttpOptions;
use crate::traces::{Came, Exchange, Recorded, Sampling, Trace};

/// What a server is, for handlers and logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// What it is called.
    pub name: String,
    /// Which kind it is.
    pub server_type: ServerType,
    /// The address it is bound to, with the port that it got.
    pub server_address: SocketAddress,
    /// Whether its connections are protected by TLS before their handler sees them.
    pub is_tls: bool,
    /// The strategy's name.
    pub concurrency: String,
    /// How it serves HTTP, to handlers that speak it.
    pub http: HttpOptions,
    /// Whether it is measured what its requests take.
    pub is_measured: bool,
    /// Of which of its requests spans are made, if of any.
    pub sampling: Option<Sampling>,
}

impl ServerInfo {
    /// The address as a user writes it, with the port that it got.
    pub(crate) fn address(&self) -> ServeAddress {
        ServeAddress::with_bound(self.server_type, self.is_tls, &self.server_address)
    }

    /// The trace of a request that gets its room now, if requests are traced.
    pub(crate) fn begin_trace(&self, came: Option<Came>) -> Option<Trace> {
        self.sampling.as_ref().zip(came).map(|(sampling, came)| Trace::begin(sampling, came))
    }

    /// What is told of a request that was answered with this in the place of a guest; `None` if it is not sampled.
    pub(crate) fn refused(&self, came: Came, exchange: impl FnOnce() -> Exchange) -> Option<Recorded> {
        let trace = self.begin_trace(Some(came))?;
        trace.note_exchange(exchange);
        trace.hand_out(Instant::now(), [])
    }

    /// For a handler that is tried out before there is a server.
    pub(crate) fn none() -> Self {
        let server_address = SocketAddress::Unix(UnixAddress::Unnamed);
        Self {
            name: String::new(),
            server_type: ServerType::UnixStream,
            server_address,
            is_tls: false,
            concurrency: String::new(),
            http: HttpOptions::default(),
            is_measured: false,
            sampling: None,
        }
    }
}
