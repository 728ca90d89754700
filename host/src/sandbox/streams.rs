//! What a guest can poll together with others: the request as the WASI streams `rfile` and `wfile`, and the
//! drain of its version.

use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::limits::{Deadlines, Watch};
use crate::request::{Request, Transport};
use crate::slot::Drain;

/// The most that `write` takes before the guest has to ask again; it bounds what waits unsent.
const WRITE_MAX: usize = 64 * 1024;

/// No datagram is larger.
const PACKET_MAX: usize = 65_535;

pub(super) struct Rfile {
    /// Not kept alive by a guest that keeps its stream beyond the request.
    request: Weak<Request>,
    watch: Arc<Watch>,
    deadlines: Deadlines,
}

pub(super) struct Wfile {
    /// Not kept alive by a guest that keeps its stream beyond the request.
    request: Weak<Request>,
    deadlines: Deadlines,
}

/// Ready when the version that serves the request drains; without a signal for it, never.
pub(super) struct DrainWatch(pub(super) Option<Arc<Drain>>);

#[async_trait::async_trait]
impl Pollable for DrainWatch {
    async fn ready(&mut self) {
        match &self.0 {
            // An eventfd that cannot be waited for leaves the request as it is without the signal.
            Some(drain) if drain.begun().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}

impl Rfile {
    pub(super) fn new(request: &Arc<Request>, watch: &Arc<Watch>, deadlines: Deadlines) -> Self {
        Self { request: Arc::downgrade(request), watch: watch.clone(), deadlines }
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

impl Wfile {
    pub(super) fn new(request: &Arc<Request>, deadlines: Deadlines) -> Self {
        Self { request: Arc::downgrade(request), deadlines }
    }
}

fn open(request: &Weak<Request>) -> StreamResult<Arc<Request>> {
    request.upgrade().ok_or(StreamError::Closed)
}

fn stream_error(error: io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => StreamError::Closed,
        _ => StreamError::LastOperationFailed(error.into()),
    }
}

#[async_trait::async_trait]
impl Pollable for Rfile {
    async fn ready(&mut self) {
        if let Ok(request) = open(&self.request)
            && let Transport::Stream(stream) = &request.transport
        {
            // Whatever is wrong with the socket, the next read says so.
            let _ = stream.readable().await;
        }
    }
}

#[async_trait::async_trait]
impl InputStream for Rfile {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &open(&self.request)?.transport {
            Transport::Datagram(datagram) => self.data_or_closed(datagram.recv(size), size),
            Transport::Stream(stream) => match stream.try_recv(size) {
                Ok(data) => self.data_or_closed(data, size),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
                Err(error) => Err(stream_error(error)),
            },
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let request = open(&self.request)?;
        let received = request.recv(size, self.deadlines.next()).await.map_err(stream_error)?;
        self.data_or_closed(received, size)
    }
}

#[async_trait::async_trait]
impl Pollable for Wfile {
    async fn ready(&mut self) {
        if let Ok(request) = open(&self.request)
            && let Transport::Stream(stream) = &request.transport
        {
            while stream.writable().await.is_ok() && !stream.send_unsent().unwrap_or(true) {}
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Wfile {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match &open(&self.request)?.transport {
            Transport::Datagram(datagram) => {
                let mut reply = datagram.reply();
                if reply.data.len() + bytes.len() > PACKET_MAX {
                    return Err(stream_error(rustix::io::Errno::MSGSIZE.into()));
                }
                reply.data.extend_from_slice(&bytes);
                reply.is_wanted = true;
                Ok(())
            }
            Transport::Stream(stream) => stream.send_or_keep(&bytes).map_err(stream_error),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        match &open(&self.request)?.transport {
            Transport::Datagram(datagram) => datagram.reply().is_wanted = true,
            Transport::Stream(stream) => {
                stream.send_unsent().map_err(stream_error)?;
            }
        }
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match &open(&self.request)?.transport {
            Transport::Datagram(_) => Ok(WRITE_MAX),
            Transport::Stream(stream) => {
                let is_all_sent = stream.send_unsent().map_err(stream_error)?;
                let is_ready = is_all_sent && stream.is_writable().map_err(stream_error)?;
                Ok(if is_ready { WRITE_MAX } else { 0 })
            }
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        let request = open(&self.request)?;
        if let Transport::Datagram(_) = &request.transport {
            return self.write(bytes);
        }
        request.send(&bytes, self.deadlines.next()).await.map_err(stream_error)
    }
}
