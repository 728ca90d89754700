//! What the host, its fork server and a child say to each other.
//!
//! The channel between host and fork server carries the setup, and then descriptors: for each request a status socket and,
//! of a stream, the connection. The status socket is all that the host and the child of a request have in common.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, Shutdown, shutdown};
use serde::{Deserialize, Serialize};

use super::host_socket::{HostSocket, TlsHost};
use crate::address::SocketAddress;
use crate::error::{Phase, RequestError};
use crate::helper_process::{message_pair, recv, send, send_now};
use crate::packed::Packed;
use crate::request::{
    Datagram, DatagramSocket, LocalAddress, Request, Stream, StreamTls, Transport, UnixCredentials,
};
use crate::sandbox::{Grants, Limits, read_sealed, sealed_file};
use crate::server_info::ServerInfo;
use crate::taken::Taken;
use crate::tls::{Ask, RemoteKeeper};
use crate::traces::TraceContext;

/// From the host to the fork server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToForkServer {
    /// Comes first; beside it a file with the [`Setup`], the precompiled handler, changes of the log's filter, a datagram
    /// server's socket, the server's drain and the version's.
    Setup,
    /// Fork; beside it a status socket and a stream's connection.
    Serve,
    /// Log to what is beside it.
    LogTo,
}

/// The only answer: whether it can serve.
pub(crate) type Ready = Result<(), String>;

/// What the fork server serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) info: ServerInfo,
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) generation: u64,
    /// Whether a datagram server's socket came along.
    pub(crate) has_datagram_socket: bool,
    /// What the host's engine has room for.
    pub(crate) room: Limits,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    /// How large a core dump may be, if the host keeps any.
    pub(crate) core_dump_size: Option<u64>,
}

impl Setup {
    /// In a file: what is granted may be more than a message can carry.
    pub(crate) fn to_file(&self) -> io::Result<OwnedFd> {
        sealed_file("setup", &postcard::to_stdvec(self).map_err(io::Error::other)?)
    }

    /// What [`Setup::to_file`] wrote.
    pub(crate) fn from_file(file: OwnedFd) -> io::Result<Self> {
        postcard::from_bytes(&read_sealed(file, u64::MAX)?).map_err(io::Error::other)
    }
}

/// The host's end of what it and whoever serves a request talk by. The request lies ready at the other end; whoever takes
/// it from there serves it, and nobody else. The end of it comes when all who had the other end are gone.
#[derive(Debug)]
pub(crate) struct StatusSocket(OwnedFd);

/// What comes of a request, in the host.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and most carry a report")]
pub(crate) enum Status {
    /// Nothing new.
    Open,
    /// With a file that came beside it.
    Said(Report, Option<OwnedFd>),
    /// Something that no report is.
    Nonsense,
    /// Nobody has taken the request, nor will.
    Untaken,
    /// Its process has ended, or will not say more.
    End,
}

/// What is said of a request at the other end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The child's word on how it went.
    Served(Result<(), RequestError>, Taken),
    /// The fork server's: the child has died of this.
    Died { status: Option<i32>, signal: Option<i32> },
    /// The fork server's: there is no process for it, and why.
    Refused(String),
    /// The child needs something of its host for a TLS handshake, or says how one went.
    Tls(Ask),
    /// The child has its host run an operation on a store, which is packed with the store's name.
    State(Packed),
    /// The child has a request of HTTP beside others, and asks for room for it. It is answered whether there is some.
    MoreRoom,
    /// It gives such room back.
    LessRoom,
    /// The guest has trapped in this phase; beside it a sealed file with the core dump.
    CoreDump(Phase),
    /// How a request of HTTP went, which was one of the connection's, and how long it took.
    Exchanged(Result<(), RequestError>, Duration, Taken),
    /// The connection is the host's again, to be served by the version that serves now; with what has come of the next
    /// request.
    HandedBack(Vec<u8>, Taken),
}

impl Report {
    /// Whether it says how it went.
    pub(crate) fn is_the_end(&self) -> bool {
        matches!(self, Self::Served(..) | Self::Died { .. } | Self::Refused(_) | Self::HandedBack(..))
    }
}

impl StatusSocket {
    /// Both ends for a request: the host's, and the other with the request in it. `received` is what has come by its
    /// connection and was not looked at.
    pub(crate) fn open(
        request: &Request,
        received: &[u8],
        trace: Option<&TraceContext>,
    ) -> io::Result<(Self, OwnedFd)> {
        let (own, other) = message_pair()?;
        send(&own, &WireRequest::of(request, received, trace), &[])?;
        Ok((Self(own), other))
    }

    /// What has been said; never blocks.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Status {
        match recv(self, buffer, RecvFlags::DONTWAIT) {
            Ok(Some((report, fds))) => Status::Said(report, fds.into_iter().next()),
            Ok(None) => Status::End,
            // The kernel's word for an end that is closed with something unread in it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Status::Untaken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Status::Open,
            Err(_) => Status::Nonsense,
        }
    }

    /// Answers what the child has asked, who waits for it; never blocks.
    pub(crate) fn answer(&self, answer: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_now(self, answer, fds)
    }

    /// Has whoever is at the other end give up.
    pub(crate) fn call_off(&self) {
        let _ = shutdown(&self.0, Shutdown::Write);
    }
}

impl AsFd for StatusSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A request as it lies in its status socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireRequest {
    id: u64,
    client_address: SocketAddress,
    credentials: Option<UnixCredentials>,
    pub(super) received: Vec<u8>,
    pub(super) trace: Option<TraceContext>,
    transport: WireTransport,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireTransport {
    Stream { tls: Option<WireTls> },
    Datagram { packet: Vec<u8>, local_address: Option<LocalAddress> },
}

/// How a stream may be protected.
#[derive(Debug, Serialize, Deserialize)]
struct WireTls {
    is_first: bool,
    handshake_timeout: Duration,
}

impl WireRequest {
    fn of(request: &Request, received: &[u8], trace: Option<&TraceContext>) -> Self {
        let transport = match &request.transport {
            Transport::Stream(stream) => WireTransport::Stream {
                tls: stream.tls().map(|StreamTls { keeper, is_first }| WireTls {
                    is_first: *is_first,
                    handshake_timeout: keeper.handshake_timeout(),
                }),
            },
            Transport::Datagram(datagram) => {
                let (packet, local_address) = datagram.parts();
                WireTransport::Datagram { packet: packet.to_vec(), local_address }
            }
        };
        let client_address = request.client_address().clone();
        let (credentials, received) = (request.unix_credentials(), received.to_vec());
        Self { id: request.id(), client_address, credentials, received, trace: trace.cloned(), transport }
    }

    /// Takes the request out of its status socket.
    pub(super) fn take(status: impl AsFd, buffer: &mut [u8]) -> io::Result<Self> {
        let (request, _) = recv(status, buffer, RecvFlags::empty())?
            .ok_or_else(|| io::Error::other("the host has given the request up"))?;
        Ok(request)
    }

    /// The same request on the other side: with the socket that came along, or the server's own.
    pub(super) fn into_request(
        self,
        connection: Option<OwnedFd>,
        host: &Arc<HostSocket>,
        datagram_socket: Option<&Arc<DatagramSocket>>,
    ) -> io::Result<Request> {
        let transport = match self.transport {
            WireTransport::Stream { tls } => {
                let connection =
                    connection.ok_or_else(|| io::Error::other("the request came without its socket"))?;
                let tls = tls.map(|WireTls { is_first, handshake_timeout }| {
                    let host = TlsHost { host: host.clone(), patience: handshake_timeout };
                    let keeper = RemoteKeeper::new(Arc::new(host), handshake_timeout);
                    StreamTls { keeper: Arc::new(keeper), is_first }
                });
                Transport::Stream(Stream::new(connection.into(), None, tls))
            }
            WireTransport::Datagram { packet, local_address } => {
                let socket =
                    datagram_socket.ok_or_else(|| io::Error::other("there is no socket to reply by"))?;
                Transport::Datagram(Datagram::new(socket.clone(), packet, local_address))
            }
        };
        Ok(Request::received(self.id, self.client_address, self.credentials, transport))
    }
}
