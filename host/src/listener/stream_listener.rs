//! Accepts connections, for both stream server types.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockRef, Socket};

use super::proxy_protocol::ProxyHeaders;
use super::{Incoming, unix};
use crate::address::{ServerType, SocketAddress};
use crate::clients::Proxies;
use crate::request::{MinRate, Request, Stream, Transport};

#[derive(Debug)]
pub(super) struct StreamListener {
    socket: Socket,
    server_type: ServerType,
    request_queue_size: u32,
    /// What accepted sockets have for timeouts from the start, and how fast their clients must be.
    pace: OnceLock<(Option<Duration>, Option<MinRate>)>,
    /// What takes the headers off connections that begin with one, if any do.
    proxy_headers: OnceLock<Box<ProxyHeaders>>,
    /// What another process has accepted, to be looked at before anything new.
    inherited: Mutex<Vec<Socket>>,
}

impl StreamListener {
    pub(super) fn new(socket: Socket, server_type: ServerType, request_queue_size: u32) -> Self {
        Self {
            socket,
            server_type,
            request_queue_size,
            pace: OnceLock::new(),
            proxy_headers: OnceLock::new(),
            inherited: Mutex::default(),
        }
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

    pub(super) fn listen(&self) -> io::Result<()> {
        self.socket.listen(self.request_queue_size.try_into().unwrap_or(i32::MAX))
    }

    pub(super) fn trust(&self, proxies: Proxies) -> io::Result<()> {
        let _ = self.proxy_headers.set(Box::new(ProxyHeaders::new(proxies, self.socket.as_fd())?));
        Ok(())
    }

    pub(super) fn ready_fd(&self) -> BorrowedFd<'_> {
        self.proxy_headers.get().map_or(self.socket.as_fd(), |headers| headers.ready_fd())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.proxy_headers.get().and_then(|headers| headers.next_deadline())
    }

    /// The next connection, as far as it is known whose it is; never blocks.
    pub(super) fn get_request(&self) -> io::Result<Incoming> {
        match self.proxy_headers.get() {
            None => self.accept().map(Incoming::Request),
            Some(headers) => headers.get_request(|| self.accept()),
        }
    }

    fn accept(&self) -> io::Result<Request> {
        let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (socket, address) = match inherited {
            Some(socket) => socket.peer_addr().map(|address| (socket, address))?,
            None => self.socket.accept()?,
        };
        Ok(self.request(socket, &address))
    }

    fn request(&self, socket: Socket, address: &SockAddr) -> Request {
        let credentials = match self.server_type {
            ServerType::UnixStream => unix::peer_credentials(SockRef::from(&socket)),
            _ => None,
        };
        let (timeout, min_rate) = self.pace.get().copied().unwrap_or_default();
        let stream = Transport::Stream(Stream::new(socket, timeout, min_rate));
        Request::new(unix::socket_address(address), credentials, stream)
    }

    /// Takes a connection that another process has accepted, as a request if it is known whose it is.
    pub(super) fn inherit(
        &self,
        connection: OwnedFd,
        client_address: Option<SocketAddress>,
    ) -> io::Result<Option<Request>> {
        let socket = Socket::from(connection);
        let Some(client_address) = client_address else {
            self.inherited.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
            return Ok(None);
        };
        let address = socket.peer_addr()?;
        let mut request = self.request(socket, &address);
        if *request.client_address() != client_address {
            request.pass_on_for(client_address);
        }
        Ok(Some(request))
    }

    /// What was accepted and not handed out: of which it is known whose it is, and the rest.
    pub(super) fn give_up(&self) -> (Vec<Request>, Vec<Request>) {
        self.proxy_headers.get().map(|headers| headers.give_up()).unwrap_or_default()
    }
}
