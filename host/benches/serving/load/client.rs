//! One client: where it is in its conversation with the server.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt::set_tcp_nodelay,
};
use rustls::ClientConfig;

use super::Work;
use super::connection::Connection;
use crate::transport::Transport;
use crate::{BLOCK, MESSAGE, tls};

/// What all clients of a load have in common.
pub struct Conversation {
    work: Work,
    transport: Transport,
    tls: Arc<ClientConfig>,
    address: SocketAddr,
    /// How much is sent and comes back in one operation.
    length: usize,
    /// What is sent: each operation takes another piece of it, so that no old answer passes for a new one.
    text: Vec<u8>,
}

pub struct Client {
    number: usize,
    connection: Connection,
    operation: usize,
    sent: usize,
    received: usize,
    begun: Instant,
    buffer: Vec<u8>,
}

impl Conversation {
    pub fn new(work: Work, transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        let length = if work == Work::Bulk { BLOCK } else { MESSAGE };
        let tls = tls::client_config(transport)?;
        Ok(Self { work, transport, tls, address, length, text: noise(BLOCK + length) })
    }

    fn connection(&self, client: usize, operation: usize) -> anyhow::Result<Connection> {
        let socket = self.socket(client, operation)?;
        Ok(match self.transport {
            Transport::Tcp | Transport::Udp => Connection::Plain(socket),
            Transport::Http => Connection::Http(socket, Vec::new()),
            Transport::Tls | Transport::TlsResumed => Connection::tls(socket, tls::client(&self.tls)?),
        })
    }

    fn socket(&self, client: usize, operation: usize) -> io::Result<OwnedFd> {
        let is_datagram = self.transport == Transport::Udp;
        let kind = if is_datagram { SocketType::DGRAM } else { SocketType::STREAM };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
        if self.work == Work::Connect {
            // A closed connection occupies its pair of addresses for a minute. With many addresses to come
            // from, ports don't run out.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            bind(&socket, &SocketAddrV4::new(source_address(client + operation), 0))?;
        }
        if !is_datagram && (self.work != Work::Connect || self.transport != Transport::Tcp) {
            set_tcp_nodelay(&socket, true)?;
        }
        match connect(&socket, &self.address) {
            // On loopback the connection is there when the call returns, although it says otherwise.
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }

    fn piece(&self, client: usize, operation: usize) -> &[u8] {
        let offset = (client * 8191 + operation * 61) % BLOCK;
        &self.text[offset..][..self.length]
    }
}

pub(super) fn source_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, (1 + number % 254) as u8)
}

/// Bytes without a pattern that a server could produce by accident (a xorshift generator).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

impl Client {
    /// Connects and begins the first operation.
    pub fn connect(conversation: &Conversation, epoll: &OwnedFd, number: usize) -> anyhow::Result<Self> {
        let connection = conversation.connection(number, 0)?;
        let buffer = vec![0; conversation.length + 1];
        let mut client =
            Self { number, connection, operation: 0, sent: 0, received: 0, begun: Instant::now(), buffer };
        client.send(conversation)?;
        client.watch(conversation, epoll)?;
        Ok(client)
    }

    /// Begins the next operation.
    pub fn again(
        &mut self,
        conversation: &Conversation,
        epoll: &OwnedFd,
        now: Instant,
    ) -> anyhow::Result<()> {
        (self.operation, self.sent, self.received, self.begun) = (self.operation + 1, 0, 0, now);
        if conversation.work != Work::Connect {
            return Ok(self.send(conversation)?);
        }
        self.connection = conversation.connection(self.number, self.operation)?;
        self.send(conversation)?;
        Ok(self.watch(conversation, epoll)?)
    }

    /// Looks at no event any more.
    pub fn leave(&self, epoll: &OwnedFd) -> io::Result<()> {
        Ok(epoll::delete(epoll, self.connection.socket())?)
    }

    /// Has epoll report changes: edges, since a call that did less than it was asked to has left nothing.
    fn watch(&self, conversation: &Conversation, epoll: &OwnedFd) -> io::Result<()> {
        let mut events = EventFlags::IN | EventFlags::ET;
        if self.sent < conversation.length || conversation.work == Work::Bulk {
            events |= EventFlags::OUT;
        }
        Ok(epoll::add(epoll, self.connection.socket(), EventData::new_u64(self.number as u64), events)?)
    }

    fn send(&mut self, conversation: &Conversation) -> io::Result<()> {
        while self.sent < conversation.length {
            let rest = &conversation.piece(self.number, self.operation)[self.sent..];
            match self.connection.send(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on after an event; when the operation is over, says when it began.
    pub fn advance(&mut self, conversation: &Conversation) -> anyhow::Result<Option<Instant>> {
        if self.sent < conversation.length {
            self.send(conversation)?;
        }
        let room = conversation.length - self.received;
        let received = match self.connection.recv(&mut self.buffer[..room + 1]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let expected = &conversation.piece(self.number, self.operation)[self.received..];
        anyhow::ensure!(received <= room, "more came back than was sent");
        anyhow::ensure!(self.buffer[..received] == expected[..received], "other bytes came back");
        if received == 0 {
            anyhow::ensure!(room == 0, "the server closed the connection early");
            return Ok(Some(self.begun));
        }
        self.received += received;
        match conversation.work {
            _ if self.received < conversation.length => Ok(None),
            Work::Connect => {
                let is_resumed = conversation.transport == Transport::TlsResumed && self.operation > 0;
                self.connection.check(is_resumed)?;
                self.connection.end()?;
                Ok(None)
            }
            _ => Ok(Some(self.begun)),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, operation, sent, received, .. } = self;
        write!(f, "{number} in operation {operation}, {sent} bytes sent, {received} received")
    }
}
