//! What a program for preview 1 has of its request: descriptors 0 and 1, both the whole connection, as inetd would
//! give it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rustix::io::Errno as SystemErrno;
use rustix::net::Shutdown;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Errno, Error, Fdflags, Filetype};

use super::super::guest_log::GuestLog;
use super::super::state::State;
use super::super::streams::add_to_reply;
use crate::request::{Request, Transport};
use crate::traces::Call;

/// What a call comes to: an error number for the guest, or a trap.
pub(super) type Outcome<T> = Result<T, Error>;

/// The most that a non-blocking write takes; what of it the kernel does not is kept unsent.
const WRITE_MAX: usize = 64 * 1024;

/// A program's WASI.
pub(in super::super) struct Preview1 {
    /// Everything but the connection.
    pub(super) ctx: WasiP1Ctx,
    pub(in super::super) log: GuestLog,
    /// The descriptors that are the connection; of wasmtime's they have only the numbers.
    connection: BTreeMap<u32, Flags>,
    /// What was looked at by `MSG_PEEK` and not yet read.
    peeked: Vec<u8>,
    /// What a wait met with; the next read or write says it.
    pub(super) failed: Option<io::Error>,
}

/// Those of one descriptor. With inetd 0 and 1 would share them, but programs that have one of them not block rely
/// on the other.
#[derive(Clone, Copy, Default)]
struct Flags {
    is_non_blocking: bool,
}

impl Preview1 {
    pub(in super::super) fn new(ctx: WasiP1Ctx, log: GuestLog) -> Self {
        let connection = [0, 1].map(|fd| (fd, Flags::default())).into();
        Self { ctx, log, connection, peeked: Vec::new(), failed: None }
    }

    pub(super) fn is_connection(&self, fd: u32) -> bool {
        self.connection.contains_key(&fd)
    }

    pub(super) fn has_peeked(&self) -> bool {
        !self.peeked.is_empty()
    }

    pub(super) fn is_non_blocking(&self, fd: u32) -> bool {
        self.connection.get(&fd).is_some_and(|flags| flags.is_non_blocking)
    }

    /// As `fcntl(F_SETFL)`.
    pub(super) fn set_flags(&mut self, fd: u32, flags: Fdflags) -> Outcome<()> {
        let settable = Fdflags::NONBLOCK | Fdflags::APPEND;
        let connection = self.connection.get_mut(&fd).ok_or(Errno::Badf)?;
        if !settable.contains(flags) {
            return Err(Errno::Inval.into());
        }
        connection.is_non_blocking = flags.contains(Fdflags::NONBLOCK);
        Ok(())
    }

    /// A descriptor is closed.
    pub(super) fn forget(&mut self, fd: u32) {
        self.connection.remove(&fd);
    }

    /// A descriptor has got another number, whose own is closed.
    pub(super) fn renumber(&mut self, from: u32, to: u32) {
        self.connection.remove(&to);
        if let Some(flags) = self.connection.remove(&from) {
            self.connection.insert(to, flags);
        }
    }
}

impl State {
    /// The request; none while an instance is made ahead of it.
    fn client(&self) -> Outcome<Arc<Request>> {
        self.watch.goes_on();
        Ok(self.request.clone().ok_or(Errno::Badf)?)
    }

    /// What POSIX calls the type of the connection's descriptors.
    pub(super) fn socket_type(&self) -> Filetype {
        match self.request.as_deref().map(|request| &request.transport) {
            Some(Transport::Datagram(_)) => Filetype::SocketDgram,
            Some(Transport::Stream(_)) | None => Filetype::SocketStream,
        }
    }

    /// Up to as many bytes as there is room for; none at the end of the stream, or of the packet.
    pub(super) async fn recv(&mut self, fd: u32, room: &mut [u8], peek: bool) -> Outcome<usize> {
        let preview1 = self.preview1();
        if preview1.peeked.is_empty() {
            let (failed, is_non_blocking) = (preview1.failed.take(), preview1.is_non_blocking(fd));
            let received = match (failed, &self.client()?.transport) {
                (Some(error), _) => Err(error),
                (None, Transport::Stream(stream)) if is_non_blocking => stream.try_recv(room.len()),
                (None, _) => {
                    let _waiting = self.watch.waiting(|| Call::Recv);
                    self.client()?.recv(room.len(), self.patience()).await
                }
            };
            let data = self.settled(received)?;
            if !peek {
                room[..data.len()].copy_from_slice(&data);
                return Ok(data.len());
            }
            self.preview1().peeked = data;
        }
        let peeked = &mut self.preview1().peeked;
        let length = peeked.len().min(room.len());
        room[..length].copy_from_slice(&peeked[..length]);
        if !peek {
            peeked.drain(..length);
        }
        Ok(length)
    }

    /// Sends all, or what there is room for if the descriptor is not to block. To a packet's client it is a part of
    /// the reply.
    pub(super) async fn write(&mut self, fd: u32, data: &[u8]) -> Outcome<usize> {
        let request = self.client()?;
        let preview1 = self.preview1();
        let written = match (preview1.failed.take(), &request.transport) {
            (Some(error), _) => Err(error),
            (None, Transport::Datagram(datagram)) => add_to_reply(datagram, data).map(|()| data.len()),
            (None, Transport::Stream(stream)) if preview1.is_non_blocking(fd) => {
                let part = &data[..data.len().min(WRITE_MAX)];
                stream.has_room().and_then(|has_room| match has_room {
                    true => stream.send_or_keep(part).map(|()| part.len()),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                })
            }
            (None, Transport::Stream(_)) => {
                let _waiting = self.watch.waiting(|| Call::Send);
                request.send(data, self.patience()).await.map(|()| data.len())
            }
        };
        self.settled(written)
    }

    /// As [`write`](Self::write) to a stream; one packet to a packet's client.
    pub(super) async fn send(&mut self, fd: u32, data: &[u8]) -> Outcome<usize> {
        match self.socket_type() {
            Filetype::SocketDgram => {
                let sent = self.client()?.send(data, self.patience()).await;
                self.settled(sent).map(|()| data.len())
            }
            _ => self.write(fd, data).await,
        }
    }

    /// As `shutdown(2)`.
    pub(super) async fn shutdown(&mut self, how: Shutdown) -> Outcome<()> {
        let request = self.client()?;
        let Transport::Stream(stream) = &request.transport else { return Ok(()) };
        let done = stream.end(how, self.patience()).await;
        self.settled(done)
    }

    /// An operation's result as the guest sees it; a trap if the request's time is over, or it was cut off.
    fn settled<T>(&self, result: io::Result<T>) -> Outcome<T> {
        // What a cut makes of the connection must not pass for what the client said.
        if let Some(cut) = self.watch.cut_off() {
            return Err(Error::trap(cut.into()));
        }
        result.map_err(|error| match self.watch.reached() {
            Some(limit) => Error::trap(limit.into()),
            None => errno(&error).into(),
        })
    }
}

fn errno(error: &io::Error) -> Errno {
    use io::ErrorKind as Kind;
    match (error.kind(), SystemErrno::from_io_error(error)) {
        (_, Some(SystemErrno::MSGSIZE)) => Errno::Msgsize,
        (Kind::WouldBlock, _) => Errno::Again,
        (Kind::TimedOut, _) => Errno::Timedout,
        (Kind::BrokenPipe, _) => Errno::Pipe,
        (Kind::ConnectionReset, _) => Errno::Connreset,
        (Kind::ConnectionAborted, _) => Errno::Connaborted,
        (Kind::ConnectionRefused, _) => Errno::Connrefused,
        (Kind::NotConnected, _) => Errno::Notconn,
        (Kind::Unsupported, _) => Errno::Notsup,
        _ => Errno::Io,
    }
}
