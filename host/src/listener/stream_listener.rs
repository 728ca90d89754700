//! Accepts connections, for both stream server types.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::unix;
use crate::address::{ServerType, socket_address};
use crate::request::{MinRate, Request, Stream, StreamTls, Transport};

#[derive(Debug)]
pub(super) struct StreamListener {
    socket: Socket,
    server_type: ServerType,
    request_queue_size: u32,
    /// What accepted sockets have for timeouts from the start, and how fast their clients must be.
    pace: OnceLock<(Option<Duration>, Option<MinRate>)>,
    tls: OnceLock<StreamTls>,
}

impl StreamListener {
    pub(super) fn new(socket: Socket, server_type: ServerType, request_queue_size: u32) -> Self {
        Self { socket, server_type, request_queue_size, pace: OnceLock::new(), tls: OnceLock::new() }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// On Linux an accepted TCP socket inherits its listener's timeouts, which saves setting them for each;
    /// the listener itself never waits.
    pub(super) fn set_pace(&self, timeout: Option<Duration>, min_rate: Option<MinRate>) -> io::Result<()> {
        let inherited = timeout.filter(|_| self.server_type == ServerType::Tcp);
        if inherited.is_some() {
            self.socket.set_read_timeout(inherited)?;
            self.socket.set_write_timeout(inherited)?;
        }
        let _ = self.pace.set((inherited, min_rate));
        Ok(())
    }

    pub(super) fn set_tls(&self, tls: StreamTls) {
        let _ = self.tls.set(tls);
    }

    pub(super) fn listen(&self) -> io::Result<()> {
        self.socket.listen(self.request_queue_size.try_into().unwrap_or(i32::MAX))
    }

    /// The next connection; never blocks.
    pub(super) fn accept(&self) -> io::Result<Request> {
        let (socket, address) = self.socket.accept()?;
        let credentials = match self.server_type {
            ServerType::UnixStream => unix::peer_credentials(SockRef::from(&socket)),
            _ => None,
        };
        let (timeout, min_rate) = self.pace.get().copied().unwrap_or_default();
        let stream = Transport::Stream(Stream::new(socket, timeout, min_rate, self.tls.get().cloned()));
        Ok(Request::new(socket_address(&address), credentials, stream))
    }
}
