//! One accepted connection or received packet, from `get_request` to `close_request`.
//!
//! This is the only place that reads, writes, shuts down and closes what a client sent. Operations are
//! `async` so that one implementation serves every strategy: where a request has a thread to itself the
//! transport blocks inside the future ([`Waits::Thread`]), elsewhere tokio waits ([`Waits::Task`]).

mod datagram;
mod datagram_socket;
mod pace;
mod protection;
mod recvmsg;
mod stream;
mod wait;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use datagram::Datagram;
pub(crate) use datagram_socket::{DatagramSocket, LocalAddress, Received};
pub use pace::{MinRate, MinRateError};
pub(crate) use stream::{ClientFault, Stream, StreamTls};
pub(crate) use wait::{Patience, Waitable, Waits};

use crate::address::SocketAddress;
use crate::taken::Volume;
use crate::tls::{Keeper, TlsError, TlsInfo, Wanted};

/// Who is at the other end of a Unix socket, as the kernel attests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixCredentials {
    /// The process that connected or sent; `None` where it lies in another pid namespace.
    pub pid: Option<u32>,
    /// Its effective user at that time.
    pub uid: u32,
    /// Its effective group at that time.
    pub gid: u32,
}

/// One request: a connection of a stream server, a packet of a datagram server. What its server knows of it besides
/// is in its [`Job`](crate::Job).
#[derive(Debug)]
pub struct Request {
    id: u64,
    client_address: SocketAddress,
    credentials: Option<UnixCredentials>,
    pub(crate) transport: Transport,
}

/// How a request reaches its client.
#[derive(Debug)]
pub(crate) enum Transport {
    Stream(Stream),
    Datagram(Datagram),
}

/// Numbers the requests of this process.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// A number that no request of this process has had.
pub(crate) fn next_id() -> u64 {
    LAST_ID.fetch_add(1, Relaxed) + 1
}

impl Request {
    pub(crate) fn new(
        client_address: SocketAddress,
        credentials: Option<UnixCredentials>,
        transport: Transport,
    ) -> Self {
        Self::received(next_id(), client_address, credentials, transport)
    }

    /// A request that another process of this host accepted and numbered.
    pub(crate) fn received(
        id: u64,
        client_address: SocketAddress,
        credentials: Option<UnixCredentials>,
        transport: Transport,
    ) -> Self {
        Self { id, client_address, credentials, transport }
    }

    /// Its sender passes it on for a client of another address.
    pub(crate) fn pass_on_for(&mut self, client_address: SocketAddress) {
        self.client_address = client_address;
        // What the kernel knows is the sender's.
        self.credentials = None;
    }

    /// How fast its client must be while it is waited for.
    pub(crate) fn set_min_rate(&mut self, min_rate: Option<MinRate>) {
        if let Transport::Stream(stream) = &mut self.transport {
            stream.set_min_rate(min_rate);
        }
    }

    /// The connection's socket; `None` for a packet.
    pub(crate) fn stream_socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.transport {
            Transport::Stream(stream) => Some(stream.socket().as_fd()),
            Transport::Datagram(_) => None,
        }
    }

    /// Unique among the requests of this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who sent it: `socketserver`'s `client_address`.
    pub fn client_address(&self) -> &SocketAddress {
        &self.client_address
    }

    /// Where it arrived, of the addresses that the server's, `bound`, may stand for.
    pub(crate) fn local_address(&self, bound: &SocketAddress) -> SocketAddress {
        let exact = match &self.transport {
            Transport::Stream(stream) => stream.socket().local_addr().ok().and_then(|addr| addr.as_socket()),
            Transport::Datagram(datagram) => datagram.local_address(bound),
        };
        exact.map_or_else(|| bound.clone(), SocketAddress::Inet)
    }

    /// The client's process and user, on a Unix socket.
    pub fn unix_credentials(&self) -> Option<UnixCredentials> {
        self.credentials
    }

    /// The packet, if this is a datagram server's request.
    pub fn packet(&self) -> Option<&[u8]> {
        match &self.transport {
            Transport::Datagram(datagram) => Some(datagram.packet()),
            Transport::Stream(_) => None,
        }
    }

    /// Lets a packet be read anew, by the handler after a hook.
    pub(crate) fn rewind(&self) {
        if let Transport::Datagram(datagram) = &self.transport {
            datagram.rewind();
        }
    }

    /// Up to `max` bytes; empty at the end of the stream, or when the packet has been read.
    pub(crate) async fn recv(&self, max: usize, patience: Patience) -> io::Result<Vec<u8>> {
        match &self.transport {
            Transport::Stream(stream) => stream.recv(max, patience).await,
            Transport::Datagram(datagram) => Ok(datagram.recv(max)),
        }
    }

    /// Sends all of `data`: on a stream every byte, otherwise as one datagram to the client.
    pub(crate) async fn send(&self, data: &[u8], patience: Patience) -> io::Result<()> {
        self.send_rest(data, &mut 0, patience).await
    }

    /// Sends what follows the first `sent` bytes of `data` and counts on; it can be dropped, and done again.
    pub(crate) async fn send_rest(
        &self,
        data: &[u8],
        sent: &mut usize,
        patience: Patience,
    ) -> io::Result<()> {
        match &self.transport {
            Transport::Stream(stream) => stream.send_rest(data, sent, patience).await,
            Transport::Datagram(_) => self.send_to(data, &self.client_address, patience).await,
        }
    }

    /// Sends one datagram to any address; `Unsupported` on a stream.
    pub(crate) async fn send_to(
        &self,
        data: &[u8],
        to: &SocketAddress,
        patience: Patience,
    ) -> io::Result<()> {
        match &self.transport {
            Transport::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
            Transport::Datagram(datagram) => datagram.send(data, to, patience).await,
        }
    }

    /// Sends what the handler left to be sent at its end: the rest of a stream's `wfile`, a datagram's reply.
    pub(crate) async fn flush(&self, patience: Patience) -> io::Result<()> {
        match &self.transport {
            Transport::Stream(stream) => stream.drain(patience).await,
            Transport::Datagram(datagram) => {
                let reply = std::mem::take(&mut *datagram.reply());
                match reply.is_wanted {
                    true => self.send(&reply.data, patience).await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Whether its connection is to be protected before its handler sees it.
    pub(crate) fn is_to_be_protected(&self) -> bool {
        match &self.transport {
            Transport::Stream(stream) => {
                stream.tls().is_some_and(|tls| tls.is_first) && stream.tls_info().is_none()
            }
            Transport::Datagram(_) => false,
        }
    }

    /// What its connection may be protected with.
    pub(crate) fn tls_keeper(&self) -> Option<Arc<dyn Keeper>> {
        match &self.transport {
            Transport::Stream(stream) => stream.tls().map(|tls| tls.keeper.clone()),
            Transport::Datagram(_) => None,
        }
    }

    /// Protects its connection by TLS, as the server of it.
    pub(crate) async fn start_tls(&self, wanted: Wanted, patience: Patience) -> Result<&TlsInfo, TlsError> {
        match &self.transport {
            Transport::Stream(stream) => stream.start_tls(wanted, patience).await,
            Transport::Datagram(_) => Err(TlsError::Unsupported),
        }
    }

    /// Notes how another process has protected its connection.
    pub(crate) fn note_protection(&self, info: TlsInfo) {
        if let Transport::Stream(stream) = &self.transport {
            stream.note_protection(info);
        }
    }

    /// How its connection is protected; `None` if it is not.
    pub fn tls(&self) -> Option<&TlsInfo> {
        match &self.transport {
            Transport::Stream(stream) => stream.tls_info(),
            Transport::Datagram(_) => None,
        }
    }

    /// Why its connection could not be protected, or is so no more.
    pub(crate) fn tls_error(&self) -> Option<&TlsError> {
        match &self.transport {
            Transport::Stream(stream) => stream.tls_error(),
            Transport::Datagram(_) => None,
        }
    }

    /// Tells the client of a protected connection that it has got all.
    pub(crate) async fn say_end(&self, patience: Patience) -> io::Result<()> {
        match &self.transport {
            Transport::Stream(stream) => stream.say_end(patience).await,
            Transport::Datagram(_) => Ok(()),
        }
    }

    /// The bytes that have passed since this was last called.
    pub(crate) fn take_volume(&self) -> Volume {
        match &self.transport {
            Transport::Stream(stream) => stream.volume.take(),
            Transport::Datagram(datagram) => datagram.volume.take(),
        }
    }

    /// The bytes that have passed so far.
    pub(crate) fn volume(&self) -> Volume {
        match &self.transport {
            Transport::Stream(stream) => stream.volume.so_far(),
            Transport::Datagram(datagram) => datagram.volume.so_far(),
        }
    }

    /// Makes every wait on this request's connection return.
    pub(crate) fn shut_down(&self) {
        if let Transport::Stream(stream) = &self.transport {
            let _ = stream.shutdown(rustix::net::Shutdown::Both);
        }
    }

    /// Notes that the client was waited for so long; how much longer it may be, if there is a least that it has to keep.
    pub(crate) fn waited(&self, time: Duration) -> Option<Duration> {
        match &self.transport {
            Transport::Stream(stream) => stream.waited(time),
            Transport::Datagram(_) => None,
        }
    }

    /// What the client did, as far as this request has noticed.
    pub(crate) fn client_fault(&self) -> Option<ClientFault> {
        match &self.transport {
            Transport::Stream(stream) => stream.client_fault(),
            Transport::Datagram(_) => None,
        }
    }

    /// Reads away what the client has sent and nobody will read; whether there was something, so that it may still
    /// be sending. Never blocks.
    pub(crate) fn discard_unread(&self) -> bool {
        match &self.transport {
            Transport::Stream(stream) => stream.discard_unread(),
            Transport::Datagram(_) => false,
        }
    }

    /// Half-closes a connection, so that the client reads all that was sent and then the end of the stream; closing
    /// follows when it is dropped. Never blocks.
    pub(crate) fn half_close(&self) {
        if let Transport::Stream(stream) = &self.transport {
            let _ = stream.shutdown(rustix::net::Shutdown::Write);
        }
    }

    /// Reads away, for a moment, what a client goes on sending.
    ///
    /// Closing a socket with unread input resets the connection, and a reset makes the client's kernel throw away
    /// an answer that the client has not read yet.
    pub(crate) async fn linger(&self, waits: Waits) {
        if let Transport::Stream(stream) = &self.transport {
            stream.linger(waits).await;
        }
    }

    /// Ends it for the client: `socketserver`'s `shutdown_request`.
    pub(crate) async fn shutdown_request(&self, waits: Waits) {
        let is_sending = self.discard_unread();
        self.half_close();
        if is_sending {
            self.linger(waits).await;
        }
    }
}
