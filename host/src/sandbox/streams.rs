//! What a guest can poll together with others: the request as the WASI streams `rfile` and `wfile`, which an
//! ordinary program has as its standard input and output, and the drain of its version.

use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::limits::Deadlines;
use super::state::State;
use super::version_info::Drain;
use super::watch::Watch;
use crate::request::{Datagram, Patience, Request, Transport};
use crate::traces::Call;

/// The most that `write` takes before the guest has to ask again; it bounds what waits unsent.
const WRITE_MAX: usize = 64 * 1024;

/// No datagram is larger.
const PACKET_MAX: usize = 65_535;

/// What streams are made of: the request, and how long it may take.
#[derive(Clone)]
pub(super) struct Connection {
    /// Not kept alive by a guest that keeps its stream beyond the request.
    request: Weak<Request>,
    watch: Arc<Watch>,
    deadlines: Deadlines,
}

impl Connection {
    /// The connection of the request that is served now; its timeout is the one that is set now.
    pub(super) fn of(state: &State) -> Self {
        let request = Arc::downgrade(&state.request_handle());
        Self { request, watch: state.watch.clone(), deadlines: state.deadlines }
    }

    fn open(&self) -> StreamResult<Arc<Request>> {
        self.watch.goes_on();
        self.request.upgrade().ok_or(StreamError::Closed)
    }

    fn patience(&self) -> Patience {
        Patience { waits: self.watch.waits(), deadline: self.deadlines.next() }
    }

    /// A failed operation as the guest sees it; a trap if the request's time is over.
    fn error(&self, error: io::Error) -> StreamError {
        match (self.watch.reached(), error.kind()) {
            (Some(limit), _) => StreamError::Trap(limit.into()),
            (None, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => StreamError::Closed,
            (None, _) => StreamError::LastOperationFailed(error.into()),
        }
    }

    /// An empty read means "nothing yet" to a stream's reader; the end of it is said apart.
    fn data_or_closed(&self, data: Vec<u8>, asked: usize) -> StreamResult<Bytes> {
        if !data.is_empty() || asked == 0 {
            return Ok(data.into());
        }
        // What a cut makes of the connection must not pass for the client's end of it.
        Err(self.watch.cut_off().map_or(StreamError::Closed, |cut| StreamError::Trap(cut.into())))
    }
}

/// The room that is left after a write: what goes beyond what `check-write` allowed is not written at all.
pub(super) fn room_after(room: usize, write: &Bytes) -> StreamResult<usize> {
    let left = room.checked_sub(write.len());
    left.ok_or_else(|| StreamError::trap("a write beyond what check-write allowed"))
}

/// Ready when the version that serves the request drains; without a signal for it, never.
pub(super) struct DrainWatch(pub(super) Option<Arc<Drain>>);

#[async_trait::async_trait]
impl Pollable for DrainWatch {
    async fn ready(&mut self) {
        Drain::begun(self.0.as_deref()).await;
    }
}

/// Writes to the datagram that a packet's client gets when its request ends.
pub(super) fn add_to_reply(datagram: &Datagram, bytes: &[u8]) -> io::Result<()> {
    let mut reply = datagram.reply();
    if reply.data.len() + bytes.len() > PACKET_MAX {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    reply.data.extend_from_slice(bytes);
    reply.is_wanted = true;
    Ok(())
}

pub(super) struct Rfile {
    connection: Connection,
    /// What a wait met with; the next read says it.
    failed: Option<io::Error>,
}

pub(super) struct Wfile {
    connection: Connection,
    /// What a wait met with; the next look for room says it.
    failed: Option<io::Error>,
    /// What `write` may take until the guest asks again.
    room: usize,
}

impl Rfile {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, failed: None }
    }
}

impl Wfile {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, failed: None, room: 0 }
    }
}

#[async_trait::async_trait]
impl Pollable for Rfile {
    async fn ready(&mut self) {
        if let Ok(request) = self.connection.open()
            && let Transport::Stream(stream) = &request.transport
        {
            let _waiting = self.connection.watch.waiting(|| Call::Recv);
            self.failed = stream.readable(self.connection.deadlines.next()).await.err();
        }
    }
}

#[async_trait::async_trait]
impl InputStream for Rfile {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let Self { connection, failed } = self;
        if let Some(error) = failed.take() {
            return Err(connection.error(error));
        }
        match &connection.open()?.transport {
            Transport::Datagram(datagram) => connection.data_or_closed(datagram.recv(size), size),
            Transport::Stream(stream) => match stream.try_recv(size) {
                Ok(data) => connection.data_or_closed(data, size),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
                Err(error) => Err(connection.error(error)),
            },
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let connection = &self.connection;
        let waiting = connection.watch.waiting(|| Call::Recv);
        let received = connection.open()?.recv(size, connection.patience()).await;
        drop(waiting);
        connection.data_or_closed(received.map_err(|error| connection.error(error))?, size)
    }
}

#[async_trait::async_trait]
impl Pollable for Wfile {
    async fn ready(&mut self) {
        if let Ok(request) = self.connection.open()
            && let Transport::Stream(stream) = &request.transport
        {
            let _waiting = self.connection.watch.waiting(|| Call::Send);
            self.failed = stream.writable(self.connection.deadlines.next()).await.err();
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Wfile {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.room = room_after(self.room, &bytes)?;
        match &self.connection.open()?.transport {
            Transport::Datagram(datagram) => {
                add_to_reply(datagram, &bytes).map_err(|error| self.connection.error(error))
            }
            Transport::Stream(stream) => {
                stream.send_or_keep(&bytes).map_err(|error| self.connection.error(error))
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        match &self.connection.open()?.transport {
            Transport::Datagram(datagram) => datagram.reply().is_wanted = true,
            Transport::Stream(stream) => {
                stream.send_unsent().map_err(|error| self.connection.error(error))?;
            }
        }
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if let Some(error) = self.failed.take() {
            return Err(self.connection.error(error));
        }
        self.room = match &self.connection.open()?.transport {
            Transport::Datagram(_) => WRITE_MAX,
            Transport::Stream(stream) => {
                let has_room = stream.has_room().map_err(|error| self.connection.error(error))?;
                if has_room { WRITE_MAX } else { 0 }
            }
        };
        Ok(self.room)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        let connection = &self.connection;
        let request = connection.open()?;
        if let Transport::Datagram(_) = &request.transport {
            self.room = bytes.len();
            return self.write(bytes);
        }
        let _waiting = connection.watch.waiting(|| Call::Send);
        let sent = request.send(&bytes, connection.patience()).await;
        sent.map_err(|error| connection.error(error))
    }
}
