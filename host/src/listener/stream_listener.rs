//! Accepts connections, for both stream server types.

use std::io;

use socket2::{SockRef, Socket};

use super::unix;
use crate::address::ServerType;
use crate::request::{Request, Stream, Transport};

#[derive(Debug)]
pub(super) struct StreamListener {
    socket: Socket,
    server_type: ServerType,
    request_queue_size: u32,
}

impl StreamListener {
    pub(super) fn new(socket: Socket, server_type: ServerType, request_queue_size: u32) -> Self {
        Self { socket, server_type, request_queue_size }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn listen(&self) -> io::Result<()> {
        self.socket.listen(self.request_queue_size.try_into().unwrap_or(i32::MAX))
    }

    pub(super) fn accept(&self) -> io::Result<Request> {
        let (socket, address) = self.socket.accept()?;
        let credentials = match self.server_type {
            ServerType::UnixStream => unix::peer_credentials(SockRef::from(&socket)),
            _ => None,
        };
        let stream = Transport::Stream(Stream::new(socket));
        Ok(Request::new(unix::socket_address(&address), credentials, stream))
    }
}
