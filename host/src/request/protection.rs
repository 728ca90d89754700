//! TLS between a connection and its socket: what rustls does, without a wait of its own.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::net::{RecvFlags, SendAncillaryBuffer, recv, send, sendmsg};
use rustls::server::{Acceptor, ServerConfig, ServerConnection};
use rustls::{AlertDescription, ProtocolVersion};
use socket2::Socket;

use super::stream::{BUFFER, RECV_MAX};
use super::wait::{MayBlock, Waitable};
use crate::tls::{Keeper, TlsError, TlsFailure, TlsInfo, Wanted};

/// What every TLS client begins with: the type of a record with handshake messages.
const HANDSHAKE: u8 = 22;

const ALERT: u8 = 21;

/// What is read at least, however little is asked for: rustls takes so much at once.
const READ_MIN: usize = 4096;

/// A connection that is protected.
#[derive(Debug)]
pub(super) struct Protection {
    connection: Mutex<ServerConnection>,
    info: TlsInfo,
    /// Notice was given of the client's end, or of ours: to write in vain after that is not the client's fault.
    has_notice: AtomicBool,
    /// Nobody here wants to read any more.
    is_read_ended: AtomicBool,
    /// Why it is protected no more.
    failure: OnceLock<TlsError>,
}

/// A handshake under way: its steps are taken one at a time, and what waits between them is not its matter.
pub(super) struct Handshake<'a> {
    keeper: &'a dyn Keeper,
    wanted: Wanted,
    /// Of the identity that the handler names: known before anything is read, so that a wrong name costs nothing.
    config: Option<Arc<ServerConfig>>,
    state: State,
}

enum State {
    Hello(Box<Acceptor>),
    Connection(Box<ServerConnection>),
}

/// What a handshake waits for.
pub(super) enum Step {
    Read,
    Write,
    Done,
}

impl<'a> Handshake<'a> {
    pub(super) fn new(keeper: &'a dyn Keeper, wanted: Wanted) -> Result<Self, TlsError> {
        let config = wanted.identity.is_some().then(|| keeper.config(&wanted)).transpose()?;
        Ok(Self { keeper, wanted, config, state: State::Hello(Box::default()) })
    }

    pub(super) fn step(&self) -> Step {
        match &self.state {
            State::Hello(_) => Step::Read,
            State::Connection(connection) if is_awaited(connection) => Step::Write,
            State::Connection(connection) if connection.is_handshaking() => Step::Read,
            State::Connection(_) => Step::Done,
        }
    }

    /// Reads once, and does what follows from it.
    pub(super) fn read(&mut self, socket: &Socket, may_block: MayBlock) -> io::Result<()> {
        let mut wire = Wire { socket, may_block };
        let read = match &mut self.state {
            State::Hello(acceptor) => acceptor.read_tls(&mut wire)?,
            State::Connection(connection) => connection.read_tls(&mut wire)?,
        };
        if read == 0 {
            return Err(TlsError::Connection("the client closed it".to_owned()).into());
        }
        match &mut self.state {
            State::Hello(acceptor) => {
                let accepted = acceptor
                    .accept()
                    .map_err(|(error, mut alert)| failed(&error, socket, |out| alert.write_all(out)))?;
                let Some(accepted) = accepted else { return Ok(()) };
                self.wanted.server_name = accepted.client_hello().server_name().map(str::to_owned);
                let config = match self.config.take() {
                    Some(config) => config,
                    None => self.keeper.config(&self.wanted)?,
                };
                let connection = accepted
                    .into_connection(config)
                    .map_err(|(error, mut alert)| failed(&error, socket, |out| alert.write_all(out)))?;
                self.state = State::Connection(Box::new(connection));
            }
            State::Connection(connection) => {
                let processed = connection.process_new_packets();
                processed.map_err(|error| failed(&error, socket, |out| drain(connection, out)))?;
            }
        }
        Ok(())
    }

    /// Writes what there is to be written.
    pub(super) fn write(&mut self, socket: &Socket, may_block: MayBlock) -> io::Result<()> {
        match &mut self.state {
            State::Hello(_) => Ok(()),
            State::Connection(connection) => flush(connection, socket, may_block),
        }
    }

    /// The connection, when all steps are done.
    pub(super) fn protection(self) -> Option<Protection> {
        match self.state {
            State::Hello(_) => None,
            State::Connection(connection) => {
                let info = TlsInfo::of(&connection);
                let (connection, failure) = (Mutex::new(*connection), OnceLock::new());
                let [has_notice, is_read_ended] = Default::default();
                Some(Protection { connection, info, has_notice, is_read_ended, failure })
            }
        }
    }
}

/// What the client has sent that is no TLS, if so; never more than it begins with, which stays to be read.
pub(super) fn plain_beginning(socket: &Socket, may_block: MayBlock) -> io::Result<Option<String>> {
    let mut beginning = [0; 8];
    let (length, _) = recv(socket, &mut beginning, RecvFlags::PEEK | may_block.recv_flags())?;
    Ok(match &beginning[..length] {
        [] => return Err(TlsError::Connection("the client closed it".to_owned()).into()),
        [HANDSHAKE, ..] => None,
        other => Some(other.escape_ascii().to_string()),
    })
}

/// Why a client that began without TLS is refused; it is told so in the way of TLS.
pub(super) fn no_tls(socket: &Socket, beginning: &str) -> TlsError {
    let alert = AlertDescription::UnexpectedMessage;
    say(socket, &[ALERT, 3, 3, 0, 2, 2, alert.into()]);
    TlsError::HandshakeFailed(TlsFailure {
        alert: Some(crate::tls::alert_name(alert)),
        message: format!("the client does not speak TLS, it began with \"{beginning}\""),
    })
}

impl Protection {
    pub(super) fn info(&self) -> &TlsInfo {
        &self.info
    }

    pub(super) fn failure(&self) -> Option<&TlsError> {
        self.failure.get()
    }

    /// What has been received and not been asked for yet, up to `max` bytes; `None` if there is nothing to tell.
    pub(super) fn received(&self, max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut data = Vec::new();
        let is_something = self.take_received(&mut self.connection(), &mut data, max)?;
        Ok(is_something.then_some(data))
    }

    /// Up to `max` bytes of what comes once [`received`](Self::received) has nothing to tell; empty at the end that the
    /// client has given notice of. `Interrupted` if what has come is not enough yet to say anything, so that whoever
    /// waits looks at the time.
    pub(super) fn recv(
        &self,
        socket: &Waitable<Socket>,
        max: usize,
        may_block: MayBlock,
    ) -> io::Result<Vec<u8>> {
        let mut connection = self.connection();
        let mut data = Vec::new();
        loop {
            send_unawaited(&mut connection, socket.socket());
            if self.read(&mut connection, socket, &mut data, max, may_block)? {
                return Ok(data);
            }
            if may_block.0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }

    /// Reads from the socket once, and adds to `data` what it comes to, up to `max` bytes; whether that is something.
    fn read(
        &self,
        connection: &mut ServerConnection,
        waitable: &Waitable<Socket>,
        data: &mut Vec<u8>,
        max: usize,
        may_block: MayBlock,
    ) -> io::Result<bool> {
        let socket = waitable.socket();
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            buffer.reserve_exact(RECV_MAX);
            // What rustls has to keep of it is then never more than it has room for: a record's rest.
            let size = max.clamp(READ_MIN, RECV_MAX);
            let room = &mut buffer.spare_capacity_mut()[..size];
            let received = recv(socket, room, may_block.recv_flags());
            let ((received, _), _) = received.map_err(|error| self.or_cut_short(error.into()))?;
            // Urgent data or descriptors, before which a read ends too, are none of TLS: who sends them waits for itself.
            if received.len() < size {
                waitable.note_emptied();
            }
            data.reserve(received.len().min(max));
            let mut rest = &*received;
            loop {
                // It takes 4 KiB at most, and nothing after the client's last word.
                let taken = connection.read_tls(&mut rest)?;
                let processed = connection.process_new_packets();
                if let Err(error) = &processed {
                    self.fail(failed(error, socket, |out| drain(connection, out)));
                }
                let is_something = self.take_received(connection, data, max)?;
                if taken == 0 || rest.is_empty() || processed.is_err() {
                    return Ok(is_something);
                }
            }
        })
    }

    /// Whether there is something to read, if only the end or an error, once what has come is looked at; never blocks.
    pub(super) fn is_readable(&self, socket: &Socket) -> bool {
        let mut connection = self.connection();
        send_unawaited(&mut connection, socket);
        loop {
            if has_received(&mut connection) {
                return true;
            }
            match connection.read_tls(&mut Wire { socket, may_block: MayBlock(false) }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    self.or_cut_short(error);
                    return true;
                }
            }
            if let Err(error) = connection.process_new_packets() {
                self.fail(failed(&error, socket, |out| drain(&mut connection, out)));
                return true;
            }
        }
    }

    /// Adds to `data` what has been received, up to `max` bytes; whether there is something to tell, if only the end.
    fn take_received(
        &self,
        connection: &mut ServerConnection,
        data: &mut Vec<u8>,
        max: usize,
    ) -> io::Result<bool> {
        let mut reader = connection.reader();
        while data.len() < max {
            let chunk = match reader.fill_buf() {
                Ok([]) => {
                    self.has_notice.store(true, Relaxed);
                    break;
                }
                Ok(chunk) => chunk,
                // It shows again with the next call.
                Err(_) if !data.is_empty() => break,
                Err(_) if let Some(failure) = self.failure() => return Err(failure.clone().into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) if self.is_read_ended.load(Relaxed) => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.fail(TlsError::ClosedWithoutNotice));
                }
                Err(error) => return Err(error),
            };
            let length = chunk.len().min(max - data.len());
            data.extend_from_slice(&chunk[..length]);
            reader.consume(length);
        }
        Ok(true)
    }

    /// Takes some of `data`, as much as the socket is likely to take with it; what the socket did not take yet, `flush` sends.
    pub(super) fn send(&self, socket: &Socket, data: &[u8], may_block: MayBlock) -> io::Result<usize> {
        // Who has only ended without notice may still read.
        if let Some(failure) = self.failure().filter(|failure| **failure != TlsError::ClosedWithoutNotice) {
            return Err(failure.clone().into());
        }
        let mut connection = self.connection();
        let mut taken = connection.writer().write(data)?;
        if taken == 0 {
            // There is no room until the socket has taken what is left of earlier.
            flush(&mut connection, socket, may_block).map_err(|error| self.or_gone(error))?;
            taken = connection.writer().write(data)?;
        }
        match flush(&mut connection, socket, may_block) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Err(self.or_gone(error))
            }
            _ => Ok(taken),
        }
    }

    /// Whether the socket has taken all.
    pub(super) fn is_flushed(&self) -> bool {
        !self.connection().wants_write()
    }

    /// Sends what the socket did not take yet.
    pub(super) fn flush(&self, socket: &Socket, may_block: MayBlock) -> io::Result<()> {
        flush(&mut self.connection(), socket, may_block).map_err(|error| self.or_gone(error))
    }

    /// Tells the client, with what is flushed next, that nothing more comes.
    pub(super) fn say_end(&self) {
        self.has_notice.store(true, Relaxed);
        self.connection().send_close_notify();
    }

    /// From here on the end is our own.
    pub(super) fn end_reading(&self) {
        self.is_read_ended.store(true, Relaxed);
    }

    /// What shows first when somebody writes is that the client has gone.
    fn or_gone(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset if !self.has_notice.load(Relaxed) => {
                self.fail(TlsError::ClosedWithoutNotice)
            }
            _ => error,
        }
    }

    /// A reset may be anybody's on the way: it must not pass for the client's end, as it does in the clear.
    fn or_cut_short(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::ConnectionReset => self.fail(TlsError::ClosedWithoutNotice),
            _ => error,
        }
    }

    fn fail(&self, error: TlsError) -> io::Error {
        let _ = self.failure.set(error.clone());
        error.into()
    }

    fn connection(&self) -> MutexGuard<'_, ServerConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the client waits for what the handshake has to send. Tickets can wait for what is sent next, or for the next wait.
fn is_awaited(connection: &ServerConnection) -> bool {
    let has_to_send_tickets =
        !connection.is_handshaking() && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    connection.wants_write() && !has_to_send_tickets
}

/// Sends tickets, or an answer to what the protocol itself asks; nobody waits for it.
fn send_unawaited(connection: &mut ServerConnection, socket: &Socket) {
    if connection.wants_write() {
        let _ = flush(connection, socket, MayBlock(false));
    }
}

/// Whether the connection has data, its end or an error to tell.
fn has_received(connection: &mut ServerConnection) -> bool {
    !matches!(connection.reader().fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn flush(connection: &mut ServerConnection, socket: &Socket, may_block: MayBlock) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(&mut Wire { socket, may_block })?;
        // Each write may wait as long as the kernel lets it: whoever waits looks at the time between two.
        if may_block.0 && connection.wants_write() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

fn drain(connection: &mut ServerConnection, out: &mut dyn Write) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(out)?;
    }
    Ok(())
}

/// What went wrong, once the client has been told: `alert` writes what it is to be told.
fn failed(
    error: &rustls::Error,
    socket: &Socket,
    alert: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> TlsError {
    let mut out = Vec::new();
    let _ = alert(&mut out);
    say(socket, &out);
    // Before there are keys it can be read.
    let sent = match out[..] {
        [.., ALERT, 3, _, 0, 2, _, description] => Some(description.into()),
        _ => None,
    };
    TlsError::of(error, sent)
}

/// Sends what the socket takes at once.
fn say(socket: &Socket, bytes: &[u8]) {
    let _ = send(socket, bytes, MayBlock(false).send_flags());
}

/// The socket, as rustls reads and writes it.
struct Wire<'a> {
    socket: &'a Socket,
    may_block: MayBlock,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.socket, buffer, self.may_block.recv_flags())?.0)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(send(self.socket, data, self.may_block.send_flags())?)
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(sendmsg(self.socket, data, &mut SendAncillaryBuffer::default(), self.may_block.send_flags())?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
