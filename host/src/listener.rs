//! Where requests come from: one file a server type. A listener yields requests and knows nothing of what
//! serves them.

mod listen_queue;
mod socket_lock;
mod stream_listener;
mod tcp;
mod udp;
mod unix;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use listen_queue::ListenQueue;
pub use unix::UnixSocketOptions;
pub(crate) use unix::{SocketFile, bind as bind_unix, peer_credentials, remove_stale_socket};

use socket2::{Domain, SockRef, Type};

use crate::address::{ServeAddress, ServerType, SocketAddress, UnixAddress, socket_address};
use crate::error::BindError;
use crate::request::{DatagramSocket, Received, Request, StreamTls};
use crate::tls::Keeper;
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

/// A bound socket of one of the four server types: what a [`Server`](crate::Server) listens on.
#[derive(Debug)]
pub struct Listener {
    server_type: ServerType,
    /// Whether connections are protected by TLS before their handler sees them.
    is_tls: bool,
    socket: Socket,
    /// The file of a Unix socket, removed with the listener.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Stream(StreamListener),
    Datagram { socket: Arc<DatagramSocket>, max_packet_size: usize },
}

/// A bound socket of another process of this program.
#[derive(Debug)]
pub struct HandedSocket {
    pub(crate) socket: OwnedFd,
    /// The locked file beside a Unix socket's.
    pub(crate) lock: Option<OwnedFd>,
}

/// What a listener had to offer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and most carry a request")]
pub(crate) enum Incoming {
    Request(Request),
    /// Nothing yet: wait until the listener is readable.
    Nothing,
    /// A datagram above `max_packet_size`: dropped, since to cut it would change what the client said.
    TooLarge {
        client_address: SocketAddress,
        length: usize,
    },
}

impl Listener {
    /// Binds the first of the address's resolutions that can be bound. Stream sockets do not listen yet.
    pub fn bind(address: &ServeAddress, options: &SocketOptions) -> Result<Self, BindError> {
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
                Ok((socket, file)) => {
                    return Ok(Self::new(server_type, socket, file, options)?.with_tls(address.is_tls()));
                }
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
        Ok(Self { server_type, is_tls: false, socket, file })
    }

    /// Whether connections are to be protected by TLS before their handler sees them, as an address says for what is bound.
    pub fn with_tls(self, is_tls: bool) -> Self {
        Self { is_tls, ..self }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What its connections may be protected with.
    pub(crate) fn set_tls(&self, keeper: Arc<dyn Keeper>) {
        if let Socket::Stream(listener) = &self.socket {
            listener.set_tls(StreamTls { keeper, is_first: self.is_tls });
        }
    }

    /// Takes a socket that somebody else bound, after checking that it is of the server type.
    pub fn adopt(
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
    pub fn take_over(
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
    pub(crate) fn activate(&self) -> Result<(), BindError> {
        let listening = match &self.socket {
            Socket::Stream(listener) => listener.listen(),
            Socket::Datagram { .. } => Ok(()),
        };
        // Two may be bound to an address of which only one can listen.
        listening
            .map_err(|error| self.address().map_or_else(Into::into, |bound| BindError::new(&bound, error)))
    }

    /// The timeout that most system calls of connections will have.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.socket {
            Socket::Stream(listener) => listener.set_timeout(timeout),
            Socket::Datagram { .. } => Ok(()),
        }
    }

    /// Which kind of server it is for.
    pub fn server_type(&self) -> ServerType {
        self.server_type
    }

    /// The address as a user writes it, with the port that it got.
    pub fn address(&self) -> io::Result<ServeAddress> {
        Ok(ServeAddress::with_bound(self.server_type, self.is_tls, &self.local_address()?))
    }

    /// What waits in the kernel to be accepted, where that is known: of TCP.
    pub(crate) fn queue(&self) -> Option<ListenQueue> {
        ListenQueue::of(self.as_fd()).filter(|_| self.server_type == ServerType::Tcp)
    }

    /// Where it is bound, with the port that it got.
    pub fn local_address(&self) -> io::Result<SocketAddress> {
        let address = match &self.socket {
            Socket::Stream(listener) => listener.socket().local_addr()?,
            Socket::Datagram { socket, .. } => socket.local_addr()?,
        };
        Ok(socket_address(&address))
    }

    /// The next request, if there is one; never blocks.
    pub(crate) fn accept(&self) -> io::Result<Incoming> {
        let got = match &self.socket {
            Socket::Stream(listener) => listener.accept().map(Incoming::Request),
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
