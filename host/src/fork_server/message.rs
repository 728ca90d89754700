//! What the host and its fork server say to each other: one message a packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::SocketAddress;
use crate::error::RequestError;
use crate::listener::{DatagramSocket, LocalAddress};
use crate::request::{Datagram, Request, Stream, Transport, UnixCredentials};
use crate::sandbox::{Grants, Limits};
use crate::server::ServerInfo;

/// No message is larger: a datagram and what is said of it.
const MESSAGE_MAX: usize = 128 * 1024;

/// The most descriptors beside one message.
const FDS_MAX: usize = 2;

/// From the host to the fork server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    /// Comes first; beside it the precompiled handler and a datagram server's socket.
    Setup(Box<Setup>),
    /// Fork for this; beside it a stream's socket.
    Serve(WireRequest),
    /// The server closes and waits no longer.
    KillAll,
}

/// What the fork server serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) info: ServerInfo,
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) generation: u64,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireRequest {
    pub(crate) id: u64,
    pub(crate) client_address: SocketAddress,
    pub(crate) credentials: Option<UnixCredentials>,
    pub(crate) transport: WireTransport,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireTransport {
    Stream,
    Datagram { packet: Vec<u8>, local_address: Option<LocalAddress> },
}

impl WireRequest {
    pub(crate) fn of(request: &Request) -> Self {
        let transport = match &request.transport {
            Transport::Stream(_) => WireTransport::Stream,
            Transport::Datagram(datagram) => {
                let (packet, local_address) = datagram.parts();
                WireTransport::Datagram { packet: packet.to_vec(), local_address }
            }
        };
        let client_address = request.client_address().clone();
        Self { id: request.id(), client_address, credentials: request.unix_credentials(), transport }
    }

    /// The same request on the other side: with the socket that came along, or the server's own.
    pub(super) fn into_request(
        self,
        socket: Option<OwnedFd>,
        datagram_socket: Option<&Arc<DatagramSocket>>,
    ) -> io::Result<Request> {
        let transport = match self.transport {
            WireTransport::Stream => {
                let socket = socket.ok_or_else(|| io::Error::other("the request came without its socket"))?;
                Transport::Stream(Stream::new(socket.into(), None))
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

/// From the fork server, and its children, to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromServer {
    /// Whether it can serve.
    Ready(Result<(), String>),
    /// It is about to fork for this request, and nobody else may serve it any more.
    Taken(u64),
    /// A child's word on how its request went.
    Outcome(u64, Result<(), RequestError>),
    /// The child of this request has exited and is reaped.
    Exited { id: u64, status: Option<i32>, signal: Option<i32> },
}

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// Kept, since to clear a new one for each message costs more than the rest of it.
    buffer: Mutex<Box<[u8]>>,
}

impl Channel {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Mutex::new(vec![0; MESSAGE_MAX].into()) }
    }

    /// Both ends: one to keep, one for the fork server's standard input.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (kept, given) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(kept), given))
    }

    /// The end that a fork server was started with.
    pub(super) fn from_stdin() -> io::Result<Self> {
        let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        // Handlers must not find the channel where a program expects its input.
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(Self::new(channel))
    }

    /// Sends one message whole; waits while the other side has too many unread.
    pub(crate) fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                sent => return sent.map(|_| ()).map_err(io::Error::from),
            }
        }
    }

    /// Waits for a message; `None` when the other end is closed.
    pub(crate) fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.recv_with(RecvFlags::CMSG_CLOEXEC)
    }

    /// A message that is there already; `WouldBlock` if none is.
    pub(crate) fn try_recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.recv_with(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
    }

    fn recv_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        });
        let message = postcard::from_bytes(&bytes[..received.bytes]).map_err(io::Error::other)?;
        Ok(Some((message, fds.collect())))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
