//! Accepts connections, for both stream server types.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::unix;
use crate::address::{ServerType, socket_address};
use crate::request::{Request, Stream, StreamTls, Transport};

#[derive(Debug)]
pub(super) struct StreamListener {
    socket: Socket,
    server_type: ServerType,
    request_queue_size: u32,
    /// What accepted sockets have for timeouts from the start.
    timeout: OnceLock<Duration>,
    tls: OnceLock<StreamTls>,
}

impl StreamListener {
    pub(super) fn new(socket: Socket, server_type: ServerType, request_queue_size: u32) -> Self {
        Self { socket, server_type, request_queue_size, timeout: OnceLock::new(), tls: OnceLock::new() }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// On Linux an accepted TCP socket inherits its listener's timeouts, which saves setting them for each;
    /// the listener itself never waits.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if let Some(timeout) = timeout.filter(|_| self.server_type == ServerType::Tcp) {
            self.socket.set_read_timeout(Some(timeout))?;
            self.socket.set_write_timeout(Some(timeout))?;
            let _ = self.timeout.set(timeout);
        }
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
        let (timeout, tls) = (self.timeout.get().copied(), self.tls.get().cloned());
        let stream = Transport::Stream(Stream::new(socket, timeout, tls));
        Ok(Request::new(socket_address(&address), credentials, stream))
    }
}
