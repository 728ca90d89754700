//! Where metrics are served: bound by whoever may, and handed on when another process takes over.

use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Observed;
use super::server::{self, MetricsServer};
use crate::address::{ServeAddress, ServerType};
use crate::control::Controlled;
use crate::error::BindError;
use crate::listener::{HandedSocket, Listener, SocketOptions};

/// A socket for metrics that is bound, and not served yet: clients wait.
#[derive(Debug)]
pub struct MetricsSocket {
    /// As it was asked for.
    asked: ServeAddress,
    listener: Listener,
    stopped: CancellationToken,
}

impl MetricsSocket {
    /// Refuses an address that plain HTTP cannot be served at.
    pub fn check(address: &ServeAddress) -> Result<(), BindError> {
        let is_plain_stream =
            matches!(address.server_type(), ServerType::Tcp | ServerType::UnixStream) && !address.is_tls();
        if is_plain_stream {
            return Ok(());
        }
        let reason = "metrics are served by plain HTTP: write tcp://HOST:PORT or unix:///PATH".to_owned();
        Err(BindError::Refused { address: address.to_string(), reason })
    }

    /// Binds `tcp://HOST:PORT` or `unix:///PATH`; others have no plain HTTP.
    pub fn bind(address: &ServeAddress) -> Result<Self, BindError> {
        Self::check(address)?;
        let listener = Listener::bind(address, &SocketOptions::default())?;
        listener.activate()?;
        Ok(Self { asked: address.clone(), listener, stopped: CancellationToken::new() })
    }

    /// Takes over what the process before this one had bound for an address.
    pub fn take_over(address: &ServeAddress, handed: HandedSocket) -> Result<Self, BindError> {
        Self::check(address)?;
        let listener = Listener::take_over(handed, address.server_type(), &SocketOptions::default())?;
        Ok(Self { asked: address.clone(), listener, stopped: CancellationToken::new() })
    }

    /// Where it is, with the port that it got.
    pub fn address(&self) -> io::Result<ServeAddress> {
        self.listener.address()
    }

    pub(crate) fn asked(&self) -> &ServeAddress {
        &self.asked
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    pub(super) fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// What another process needs to take it over.
    pub(crate) fn hand_out(&self) -> io::Result<HandedSocket> {
        self.listener.hand_out()
    }

    /// Says whether a Unix socket's file goes with it or belongs to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        self.listener.set_owned(is_owned);
    }

    /// Answers nobody any more: another process does, whose numbers are others.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Answers clients on a thread of its own, until what this returns is dropped.
    pub fn serve(self: Arc<Self>, host: Arc<dyn Controlled>) -> io::Result<MetricsServer> {
        server::start(self, Observed::new(host))
    }
}
