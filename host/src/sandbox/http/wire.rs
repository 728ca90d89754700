//! A connection as hyper reads and writes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::Handover;
use super::traffic::Traffic;
use crate::request::{Request, Stream, Transport};

/// What a client of HTTP/2 begins with who has not asked whether it is spoken here.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that is read at once.
const READ_MAX: usize = 64 * 1024;

pub(super) struct Wire {
    request: Arc<Request>,
    traffic: Arc<Traffic>,
    /// What was read and not yet handed on.
    ahead: Vec<u8>,
    /// By which the connection may go to another version before its next request is read.
    gate: Option<Arc<Handover>>,
}

impl Wire {
    /// `ahead` is what was read before; `gate` is there where the connection can be moved.
    pub(super) fn new(
        request: Arc<Request>,
        traffic: Arc<Traffic>,
        ahead: Vec<u8>,
        gate: Option<Arc<Handover>>,
    ) -> Self {
        Self { request, traffic, ahead, gate }
    }

    /// From now on it stays here.
    pub(super) fn keep(&mut self) {
        self.gate = None;
    }

    /// What was read and not handed on.
    pub(super) fn into_ahead(self) -> Vec<u8> {
        self.ahead
    }

    /// Whether the client begins with the preface of HTTP/2. Reads no further than it takes to tell.
    pub(super) fn poll_is_http2(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.ahead.len() < PREFACE.len() && PREFACE.starts_with(&self.ahead) {
            let more = ready!(self.stream().poll_recv(READ_MAX, context))?;
            if more.is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.ahead.extend(more);
        }
        Poll::Ready(Ok(self.ahead.starts_with(PREFACE)))
    }

    fn stream(&self) -> &Stream {
        match &self.request.transport {
            Transport::Stream(stream) => stream,
            Transport::Datagram(_) => unreachable!("HTTP is refused to datagram servers"),
        }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever polls hyper finds out by itself.
        if self.gate.as_ref().is_some_and(|gate| self.traffic.is_quiet() && gate.is_due()) {
            return Poll::Pending;
        }
        let room = buffer.remaining();
        if !self.ahead.is_empty() {
            let length = room.min(self.ahead.len());
            buffer.put_slice(&self.ahead[..length]);
            self.traffic.note_read(&self.ahead[..length]);
            self.ahead.drain(..length);
            return Poll::Ready(Ok(()));
        }
        let data = ready!(self.stream().poll_recv(room, context))?;
        self.traffic.note_read(&data);
        buffer.put_slice(&data);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.traffic.note_write(self.stream().poll_send(data, context))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.traffic.note_write(self.stream().poll_flush(context))
    }

    /// Whoever owns the connection half-closes it.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
