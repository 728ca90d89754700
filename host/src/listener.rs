//! Where requests come from: one file a server type. A listener yields requests and knows nothing of what
//! serves them.

mod datagram_socket;
mod proxy_protocol;
mod stream_listener;
mod tcp;
mod udp;
mod unix;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use datagram_socket::{DatagramSocket, LocalAddress};
pub use unix::UnixSocketOptions;
pub(crate) use unix::{SocketFile, bind as bind_unix, peer_credentials, remove_stale_socket};

use socket2::{Domain, SockRef, Type};

use crate::address::{ServeAddress, ServerType, SocketAddress, UnixAddress};
use crate::clients::Proxies;
use crate::error::BindError;
use crate::request::{MinRate, Request};
use crate::upgrade::{HandedSocket, Heir};
use datagram_socket::Received;
use stream_listener::StreamListener;

/// How a socket is made; the names are `socketserver`'s.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// How many connections may wait in the kernel to be accepted (1,024; the kernel may allow fewer).
    pub request_queue_size: u32,
    /// Whether to bind an address that closed connections still occupy (`SO_REUSEADDR`; true).
    pub allow_reuse_address: bool,
    /// Whether several sockets may share the address (`SO_REUSEPORT`; false).
    pub allow_reuse_port: bool,
    /// Whether an IPv6 socket leaves IPv4 alone (`IPV6_V6ONLY`); otherwise `[::]` serves both (false).
    pub ipv6_only: bool,
    /// The largest datagram that is served, in bytes (8,192). A larger one is dropped and reported.
    pub max_packet_size: usize,
    /// Mode and owner of a Unix socket's file.
    pub unix: UnixSocketOptions,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            request_queue_size: 1024,
            allow_reuse_address: true,
            allow_reuse_port: false,
            ipv6_only: false,
            max_packet_size: 8192,
            unix: UnixSocketOptions::default(),
        }
    }
}

/// A bound socket of one of the four server types.
#[derive(Debug)]
pub(crate) struct Listener {
    server_type: ServerType,
    socket: Socket,
    /// Accepted, and not served yet: by somebody who could not serve it, or by the process before this one.
    accepted: Mutex<VecDeque<Request>>,
    /// Who gets what is left of them.
    heir: OnceLock<Heir>,
    /// The file of a Unix socket, removed with the listener.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Stream(StreamListener),
    Datagram { socket: Arc<DatagramSocket>, max_packet_size: usize },
}

/// What a listener had to offer.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(Request),
    /// Nothing yet: wait until the listener is readable.
    Nothing,
    /// A datagram above `max_packet_size`: dropped, since to cut it would change what the client said.
    TooLarge {
        client_address: SocketAddress,
        length: usize,
    },
    /// A connection of a trusted sender that did not begin as it must.
    BadProxyHeader {
        request: Request,
        reason: &'static str,
    },
}

impl Listener {
    /// Binds the first of the address's resolutions that can be bound. Stream sockets do not listen yet.
    pub(crate) fn bind(address: &ServeAddress, options: &SocketOptions) -> Result<Self, BindError> {
        let server_type = address.server_type();
        let mut failure = None;
        for resolved in address.resolve()? {
            let bound = match (server_type, &resolved) {
                (ServerType::Tcp, SocketAddress::Inet(at)) => tcp::bind(*at, options).map(|s| (s, None)),
                (ServerType::Udp, SocketAddress::Inet(at)) => udp::bind(*at, options).map(|s| (s, None)),
                (ServerType::UnixStream, SocketAddress::Unix(name)) => {
                    unix::bind(name, Type::STREAM, &options.unix)
                }
                (ServerType::UnixDatagram, SocketAddress::Unix(name)) => {
                    unix::bind(name, Type::DGRAM, &options.unix)
                }
                _ => unreachable!("an address resolves to its own family"),
            };
            match bound {
                Ok((socket, file)) => return Ok(Self::new(server_type, socket, file, options)?),
                Err(error) => failure = Some(error),
            }
        }
        let error = failure.expect("an address resolves to at least one");
        Err(BindError::new(address, error))
    }

    fn new(
        server_type: ServerType,
        socket: socket2::Socket,
        file: Option<SocketFile>,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = if server_type.is_datagram() {
            let socket = Arc::new(DatagramSocket::new(socket, server_type)?);
            Socket::Datagram { socket, max_packet_size: options.max_packet_size }
        } else {
            Socket::Stream(StreamListener::new(socket, server_type, options.request_queue_size))
        };
        Ok(Self { server_type, socket, accepted: Mutex::default(), heir: OnceLock::new(), file })
    }

    /// Takes a socket that somebody else bound, after checking that it is of the server type.
    pub(crate) fn adopt(
        socket: OwnedFd,
        server_type: ServerType,
        options: &SocketOptions,
    ) -> Result<Self, BindError> {
        let found = socket_type(&SockRef::from(&socket))?;
        if found != Some(server_type) {
            return Err(BindError::WrongSocket { wanted: server_type, found });
        }
        let socket = socket2::Socket::from(socket);
        Ok(Self::new(server_type, socket, None, options)?)
    }

    /// Takes over a socket that another process of this program bound.
    pub(crate) fn take_over(
        HandedSocket { socket, lock }: HandedSocket,
        server_type: ServerType,
        options: &SocketOptions,
    ) -> Result<Self, BindError> {
        let mut listener = Self::adopt(socket, server_type, options)?;
        if let (SocketAddress::Unix(UnixAddress::Path(path)), Some(lock)) = (listener.local_address()?, lock)
        {
            listener.file = Some(SocketFile::adopt(path, lock));
        }
        Ok(listener)
    }

    /// What another process needs to take the socket over.
    pub(crate) fn hand_out(&self) -> io::Result<HandedSocket> {
        let lock = self.file.as_ref().map(SocketFile::lock).transpose()?;
        Ok(HandedSocket { socket: self.as_fd().try_clone_to_owned()?, lock })
    }

    /// Says whether a Unix socket's file goes with this listener or belongs to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        if let Some(file) = &self.file {
            file.set_owned(is_owned);
        }
    }

    /// `socketserver`'s `server_activate`: a stream socket starts to listen.
    pub(crate) fn activate(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Stream(listener) => listener.listen(),
            Socket::Datagram { .. } => Ok(()),
        }
    }

    /// How fast connections have to be. Each of their system calls begins with this timeout.
    pub(crate) fn set_pace(&self, timeout: Option<Duration>, min_rate: Option<MinRate>) -> io::Result<()> {
        match &self.socket {
            Socket::Stream(listener) => listener.set_pace(timeout, min_rate),
            Socket::Datagram { .. } => Ok(()),
        }
    }

    /// Has connections from these senders begin with a PROXY protocol header.
    pub(crate) fn trust(&self, proxies: Proxies) -> io::Result<()> {
        match &self.socket {
            Socket::Stream(listener) => listener.trust(proxies),
            Socket::Datagram { .. } => Ok(()),
        }
    }

    pub(crate) fn server_type(&self) -> ServerType {
        self.server_type
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddress> {
        let address = match &self.socket {
            Socket::Stream(listener) => listener.socket().local_addr()?,
            Socket::Datagram { socket, .. } => socket.local_addr()?,
        };
        Ok(unix::socket_address(&address))
    }

    /// The next request, if there is one; never blocks.
    pub(crate) fn get_request(&self) -> io::Result<Incoming> {
        if let Some(request) = self.lock_accepted().pop_front() {
            return Ok(Incoming::Request(request));
        }
        let got = match &self.socket {
            Socket::Stream(listener) => listener.get_request(),
            Socket::Datagram { socket, max_packet_size } => {
                DatagramSocket::try_recv(socket, *max_packet_size).map(|received| match received {
                    Received::Packet(request) => Incoming::Request(request),
                    Received::TooLarge { client_address, length } => {
                        Incoming::TooLarge { client_address, length }
                    }
                })
            }
        };
        match got {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Incoming::Nothing),
            got => got,
        }
    }

    /// Readable when `get_request` may have something.
    pub(crate) fn ready_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Stream(listener) => listener.ready_fd(),
            Socket::Datagram { socket, .. } => socket.as_fd(),
        }
    }

    /// When `get_request` will have something although nothing has come.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.socket {
            Socket::Stream(listener) => listener.next_deadline(),
            Socket::Datagram { .. } => None,
        }
    }

    /// Keeps a request for the next call of `get_request`.
    pub(crate) fn put_back(&self, request: Request) {
        self.lock_accepted().push_front(request);
    }

    /// Takes a connection that another process has accepted. Without the client's address it is as one that is
    /// accepted now.
    pub(crate) fn inherit(
        &self,
        connection: OwnedFd,
        client_address: Option<SocketAddress>,
    ) -> io::Result<()> {
        match &self.socket {
            Socket::Stream(listener) => {
                self.lock_accepted().extend(listener.inherit(connection, client_address)?);
                Ok(())
            }
            Socket::Datagram { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whoever gets the connections that are accepted and not served when this is dropped.
    pub(crate) fn set_heir(&self, heir: Heir) {
        let _ = self.heir.set(heir);
    }

    fn lock_accepted(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let (Some(heir), Socket::Stream(listener)) = (self.heir.take(), &self.socket) else { return };
        let (mut known, unknown) = listener.give_up();
        known.extend(self.lock_accepted().drain(..));
        let known = known.iter().map(|request| (request, Some(request.client_address())));
        for (request, client_address) in known.chain(unknown.iter().map(|request| (request, None))) {
            let left = request.stream_socket().map(|connection| heir.leave(connection, client_address));
            if let Some(Err(error)) = left {
                tracing::warn!(client = %request.client_address(), "cannot be handed over unserved: {error}");
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Stream(listener) => listener.socket().as_fd(),
            Socket::Datagram { socket, .. } => socket.as_fd(),
        }
    }
}

/// Which server can serve a socket as it is, listening if it is a stream's; `None` if none can. For
/// [`Server::from_socket`](crate::Server::from_socket).
pub fn server_type_of(socket: impl AsFd) -> io::Result<Option<ServerType>> {
    let socket = SockRef::from(&socket);
    let server_type = socket_type(&socket)?;
    let is_ready = server_type.is_some_and(ServerType::is_datagram) || socket.is_listener()?;
    Ok(server_type.filter(|_| is_ready))
}

/// Which server type can use a socket; `None` if none can.
fn socket_type(socket: &socket2::Socket) -> io::Result<Option<ServerType>> {
    let is_inet = matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6);
    let is_unix = socket.domain()? == Domain::UNIX;
    Ok(match socket.r#type()? {
        Type::STREAM if is_inet => Some(ServerType::Tcp),
        Type::DGRAM if is_inet => Some(ServerType::Udp),
        Type::STREAM if is_unix => Some(ServerType::UnixStream),
        Type::DGRAM if is_unix => Some(ServerType::UnixDatagram),
        _ => None,
    })
}
