//! A client of any server type.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use plugsock::{ServeAddress, SocketAddress, UnixAddress};
use rustix::net::SocketAddrUnix;
use socket2::{Domain, SockAddr, Socket, Type};

use super::PATIENCE;

/// A socket that is connected to a server. No operation waits longer than [`PATIENCE`].
pub struct Client {
    pub socket: Socket,
    is_datagram: bool,
}

impl Client {
    pub fn connect(address: &ServeAddress) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// A client whose request is being served, by a handler that echoes.
    pub fn greeted(address: &ServeAddress) -> Self {
        let client = Self::connect(address);
        client.send(b"a");
        assert_eq!(client.recv_exact(1), b"a");
        client
    }

    pub fn try_connect(address: &ServeAddress) -> io::Result<Self> {
        let client = Self::unbound(address)?;
        if client.socket.domain()? == Domain::UNIX && client.is_datagram {
            // Binding to no name has the kernel choose an abstract one.
            client.socket.bind(&SockAddr::unix("")?)?;
        }
        client.socket.connect(&sockaddr(address))?;
        Ok(client)
    }

    /// From another address of this machine's own network.
    pub fn connect_from(source: Ipv4Addr, address: &ServeAddress) -> Self {
        let client = Self::unbound(address).unwrap();
        client.socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        client.socket.connect(&sockaddr(address)).unwrap();
        client
    }

    /// With a name of its own, of a Unix socket.
    pub fn named(path: &Path, address: &ServeAddress) -> Self {
        let client = Self::unbound(address).unwrap();
        // Which takes names of all lengths that the kernel does.
        rustix::net::bind(&client.socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        client.socket.connect(&sockaddr(address)).unwrap();
        client
    }

    /// Without a name that a Unix datagram server could answer.
    pub fn unnamed(address: &ServeAddress) -> Self {
        let client = Self::unbound(address).unwrap();
        client.socket.connect(&sockaddr(address)).unwrap();
        client
    }

    fn unbound(address: &ServeAddress) -> io::Result<Self> {
        let is_datagram = address.server_type().is_datagram();
        let kind = if is_datagram { Type::DGRAM } else { Type::STREAM };
        let socket = Socket::new(sockaddr(address).domain(), kind, None)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, is_datagram })
    }

    /// One request from its beginning to its end: sends `data`, and returns the whole answer.
    pub fn ask(address: &ServeAddress, data: &[u8]) -> Vec<u8> {
        Self::connect(address).exchange(data)
    }

    /// Sends `data` and nothing after it, while it receives the answer.
    pub fn exchange(&self, data: &[u8]) -> Vec<u8> {
        if self.is_datagram {
            self.send(data);
            return self.recv_some();
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                // A handler need not read what it is sent: it may have closed already.
                let _ = (&self.socket).write_all(data);
                let _ = self.socket.shutdown(Shutdown::Write);
            });
            self.recv_all()
        })
    }

    /// Sends all of `data`; as one datagram where there are datagrams.
    pub fn send(&self, data: &[u8]) {
        match self.is_datagram {
            true => assert_eq!(self.socket.send(data).unwrap(), data.len()),
            false => (&self.socket).write_all(data).unwrap(),
        }
    }

    /// Sends a line to a handler that echoes lines and says `tick` all the time, and ends: ticks go on until the end.
    pub fn is_answered_between_ticks(&self) {
        self.send(b"hello\n");
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello\n") {
            answer.extend(self.recv_exact(1));
        }
        self.half_close();
        let rest = String::from_utf8(self.recv_all()).unwrap();
        assert!(rest.lines().all(|line| line == "tick"), "{rest}");
    }

    /// Sends what may come too late.
    pub fn try_send(&self, data: &[u8]) {
        let _ = (&self.socket).write_all(data);
    }

    /// The client has said all it will; nothing to do for datagrams.
    pub fn half_close(&self) {
        if !self.is_datagram {
            self.socket.shutdown(Shutdown::Write).unwrap();
        }
    }

    /// All until the end of the stream, or one datagram.
    pub fn recv_all(&self) -> Vec<u8> {
        if self.is_datagram {
            return self.recv_some();
        }
        let mut data = Vec::new();
        (&self.socket).read_to_end(&mut data).unwrap();
        data
    }

    /// Exactly `length` bytes of a stream, or of as many datagrams as have them.
    pub fn recv_exact(&self, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            let some = match self.is_datagram {
                true => self.recv_some(),
                false => self.recv_up_to(length - data.len()),
            };
            assert!(!some.is_empty(), "only {} of {length} bytes came", data.len());
            data.extend(some);
        }
        data
    }

    /// One datagram, or what a stream has now.
    pub fn recv_some(&self) -> Vec<u8> {
        self.recv_up_to(128 * 1024)
    }

    fn recv_up_to(&self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        let length = (&self.socket).read(&mut data).unwrap();
        data.truncate(length);
        data
    }

    /// Whether the connection has been closed or reset; waits for it.
    pub fn is_closed(&self) -> bool {
        match (&self.socket).read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether it has been by now; what has come is lost.
    pub fn has_ended(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let is_open = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let ended =
            (&self.socket).read(&mut [0; 4096]).map_or_else(|error| !is_open(error), |length| length == 0);
        self.socket.set_nonblocking(false).unwrap();
        ended
    }

    /// Nothing has come that was not received.
    pub fn has_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let read = (&self.socket).read(&mut [0]);
        self.socket.set_nonblocking(false).unwrap();
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The address as the kernel takes it.
pub fn sockaddr(address: &ServeAddress) -> SockAddr {
    match address.resolve().unwrap().swap_remove(0) {
        SocketAddress::Inet(inet) => inet.into(),
        SocketAddress::Unix(UnixAddress::Path(path)) => SockAddr::unix(path).unwrap(),
        SocketAddress::Unix(UnixAddress::Abstract(name)) => {
            let name = [&[0], &name[..]].concat();
            SockAddr::unix(OsStr::from_bytes(&name)).unwrap()
        }
        SocketAddress::Unix(UnixAddress::Unnamed) => unreachable!("a server has a name"),
    }
}
