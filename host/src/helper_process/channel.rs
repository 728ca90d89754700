//! What the host and a helper talk through: one message a packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No message is larger: a datagram and what is said of it.
const MESSAGE_MAX: usize = 128 * 1024;

/// The most descriptors beside one message.
const FDS_MAX: usize = 8;

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// Kept, since to clear a new one for each message costs more than the rest of it.
    buffer: Mutex<Box<[u8]>>,
}

impl Channel {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Mutex::new(message_buffer()) }
    }

    /// Both ends: one to keep, one for another process's standard input.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (kept, given) = message_pair()?;
        Ok((Self::new(kept), given))
    }

    /// The end that a helper was started with.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        // Nothing must find the channel where a program expects its input.
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(Self::new(channel))
    }

    /// Sends one message whole; waits while the other side has too many unread.
    pub(crate) fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self, message, fds)
    }

    /// Waits for a message; `None` when the other end is closed.
    pub(crate) fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.recv_with(RecvFlags::empty())
    }

    /// A message that is there already; `WouldBlock` if none is.
    pub(crate) fn try_recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.recv_with(RecvFlags::DONTWAIT)
    }

    fn recv_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        recv(self, &mut self.buffer.lock().unwrap_or_else(PoisonError::into_inner), flags)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Both ends of a connection that carries messages.
pub(crate) fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Room for any message.
pub(crate) fn message_buffer() -> Box<[u8]> {
    vec![0; MESSAGE_MAX].into()
}

/// Sends one message whole; waits while the other side has too many unread.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, message, fds, SendFlags::NOSIGNAL)
}

/// Sends one message whole; `WouldBlock` while the other side has too many unread.
pub(crate) fn send_now(
    socket: impl AsFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_with(socket, message, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_with(
    socket: impl AsFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return sent.map(|_| ()).map_err(io::Error::from),
        }
    }
}

/// A message, and the descriptors beside it; `None` when the other end is closed, `WouldBlock` with `DONTWAIT` if none is
/// there.
pub(crate) fn recv<T: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags | RecvFlags::CMSG_CLOEXEC)
        {
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
    let message = postcard::from_bytes(&buffer[..received.bytes]).map_err(io::Error::other)?;
    Ok(Some((message, fds.collect())))
}
