//! A connection: TCP or Unix stream.

mod protect;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::net::sockopt::socket_domain;
use rustix::net::{AddressFamily, Shutdown, recv, send, shutdown};
use socket2::Socket;
use tokio::io::Interest;

use protect::MayBeProtected;
pub(crate) use protect::StreamTls;

use super::pace::{MinRate, Pace};
use super::wait::{MayBlock, Patience, Waitable, Waits};
use crate::taken::VolumeCount;
use crate::tls::TlsError;

/// The most that one `recv` brings; it bounds what a guest can make the host allocate.
pub(super) const RECV_MAX: usize = 64 * 1024;

/// What is at least so long is handed on in the buffer that it was received into.
const COPY_MAX: usize = 16 * 1024;

thread_local! {
    /// What is received into, so that a connection that waits holds none.
    pub(super) static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How long, and for how many bytes, a close waits for a client that is still sending.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// Why a client could not be waited for any longer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientFault {
    /// It broke the connection off.
    Went,
    /// It let a deadline pass.
    Silent,
    /// It was slower than it must be.
    Slow,
    /// It did not finish a TLS handshake in this time.
    Unprotected(Duration),
    /// It did what TLS does not allow.
    Tls,
}

#[derive(Debug)]
pub(crate) struct Stream {
    socket: Waitable<Socket>,
    /// The client has sent all it will, so nothing unread can be left when the request ends.
    is_at_end: AtomicBool,
    client_fault: Mutex<Option<ClientFault>>,
    /// If there is a least that the client has to keep.
    pace: Option<Box<Pace>>,
    /// What `wfile` took while the kernel's buffer was full; it goes out before anything else.
    unsent: Mutex<Vec<u8>>,
    /// `None` where the operator has no certificate.
    tls: Option<Box<MayBeProtected>>,
    /// What its handler has received and sent.
    pub(super) volume: VolumeCount,
}

impl Stream {
    /// An accepted socket in blocking mode, whose timeouts in the kernel are set to `timeout`.
    pub(crate) fn new(socket: Socket, timeout: Option<Duration>, tls: Option<StreamTls>) -> Self {
        Self {
            socket: Waitable::blocking(socket, timeout),
            is_at_end: AtomicBool::new(false),
            client_fault: Mutex::default(),
            pace: None,
            unsent: Mutex::default(),
            tls: tls.map(MayBeProtected::new),
            volume: VolumeCount::default(),
        }
    }

    /// Has the client keep this rate from now on.
    pub(super) fn set_min_rate(&mut self, min_rate: Option<MinRate>) {
        self.pace = min_rate.map(|rate| Box::new(Pace::new(rate)));
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.socket.socket()
    }

    pub(super) async fn recv(&self, max: usize, patience: Patience) -> io::Result<Vec<u8>> {
        let max = max.min(RECV_MAX);
        // A task would wait for the socket before it looked at what has come already, or at why nothing will.
        let data = match self.received(max)? {
            Some(data) => data,
            None => {
                let recv = |may_block| self.recv_now(max, may_block);
                self.until_done(Interest::READABLE, patience, recv).await?
            }
        };
        self.note_received(data.len());
        if data.is_empty() && max > 0 {
            self.is_at_end.store(true, Relaxed);
        }
        Ok(data)
    }

    /// What has come already of a protected connection, at most `max` bytes.
    fn received(&self, max: usize) -> io::Result<Option<Vec<u8>>> {
        match self.protection()? {
            Some(protection) => protection.received(max).map_err(|error| self.noted(error)),
            None => Ok(None),
        }
    }

    /// What the socket brings.
    fn recv_now(&self, max: usize, may_block: MayBlock) -> io::Result<Vec<u8>> {
        match self.protection()? {
            Some(protection) => protection.recv(&self.socket, max, may_block),
            None => self.recv_raw(max, may_block),
        }
    }

    fn recv_raw(&self, max: usize, may_block: MayBlock) -> io::Result<Vec<u8>> {
        let flags = may_block.recv_flags();
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            buffer.reserve_exact(RECV_MAX);
            if max < RECV_MAX {
                let room = &mut buffer.spare_capacity_mut()[..max];
                let ((data, _), _) = recv(self.socket(), room, flags)?;
                return Ok(data.to_vec());
            }
            recv(self.socket(), spare_capacity(buffer), flags)?;
            // To copy much costs more than a new buffer.
            Ok(if buffer.len() < COPY_MAX { buffer.to_vec() } else { std::mem::take(buffer) })
        })
    }

    pub(super) async fn send_rest(
        &self,
        data: &[u8],
        sent: &mut usize,
        patience: Patience,
    ) -> io::Result<()> {
        self.drain_unsent(patience).await?;
        while *sent < data.len() {
            let send = |may_block| self.send_now(&data[*sent..], may_block);
            let length = self.until_done(Interest::WRITABLE, patience, send).await?;
            self.note_sent(length);
            *sent += length;
        }
        self.flush(patience).await
    }

    /// Sends what `wfile` left unsent, and has the socket take it.
    pub(super) async fn drain(&self, patience: Patience) -> io::Result<()> {
        self.drain_unsent(patience).await?;
        self.flush(patience).await
    }

    async fn drain_unsent(&self, patience: Patience) -> io::Result<()> {
        if self.unsent().is_empty() {
            return Ok(());
        }
        let drain = |_| match self.send_unsent()? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        self.until_done(Interest::WRITABLE, patience, drain).await
    }

    /// Waits as the socket does, but no longer than the client may be waited for; notes whose fault an error is.
    async fn until_done<T>(
        &self,
        interest: Interest,
        patience: Patience,
        mut operation: impl FnMut(MayBlock) -> io::Result<T>,
    ) -> io::Result<T> {
        // Too short a wait for the kernel's clock would never end in vain.
        if self.is_too_slow() {
            let done = operation(MayBlock(false)).or_else(|error| self.or_too_slow(error));
            return done.map_err(|error| self.noted(error));
        }
        let waiting = self.pace.as_deref().map(Pace::wait);
        let patience = waiting.as_ref().map_or(patience, |waiting| waiting.limit(patience));
        let done = self.socket.until_done(interest, patience, operation).await;
        // Whose deadline it was shows when the wait is counted.
        drop(waiting);
        done.map_err(|error| self.noted(error))
    }

    fn is_too_slow(&self) -> bool {
        self.pace.as_deref().is_some_and(|pace| pace.check().is_err())
    }

    fn note_received(&self, bytes: usize) {
        self.volume.receive(bytes);
        self.note_pace(bytes);
    }

    fn note_sent(&self, bytes: usize) {
        self.volume.send(bytes);
        self.note_pace(bytes);
    }

    fn note_pace(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.note(bytes);
        }
    }

    /// Sends what it can of `data` and keeps the rest; never blocks.
    pub(crate) fn send_or_keep(&self, data: &[u8]) -> io::Result<()> {
        let sent = if self.send_unsent()? { self.try_send(data).or_else(none_if_full)? } else { 0 };
        self.unsent().extend_from_slice(&data[sent..]);
        Ok(())
    }

    /// Whether all that was kept is sent by now; never blocks.
    pub(crate) fn send_unsent(&self) -> io::Result<bool> {
        let mut unsent = self.unsent();
        if !unsent.is_empty() {
            let sent = self.try_send(&unsent).or_else(none_if_full)?;
            unsent.drain(..sent);
        }
        let is_flushed = || match self.protection()? {
            Some(protection) => match protection.flush(self.socket(), MayBlock(false)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                flushed => flushed.map(|()| true),
            },
            None => Ok(true),
        };
        Ok(unsent.is_empty() && is_flushed().map_err(|error| self.noted(error))?)
    }

    fn unsent(&self) -> MutexGuard<'_, Vec<u8>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_now(&self, data: &[u8], may_block: MayBlock) -> io::Result<usize> {
        if let Some(protection) = self.protection()? {
            return protection.send(self.socket(), data, may_block);
        }
        Ok(send(self.socket(), data, may_block.send_flags())?)
    }

    /// What the kernel takes now; never blocks.
    fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        let sent = self.send_now(data, MayBlock(false)).or_else(|error| self.or_too_slow(error));
        let sent = sent.map_err(|error| self.noted(error))?;
        self.note_sent(sent);
        Ok(sent)
    }

    /// What the kernel has now, at most `max` bytes; never blocks.
    pub(crate) fn try_recv(&self, max: usize) -> io::Result<Vec<u8>> {
        let max = max.min(RECV_MAX);
        let recv = || self.recv_now(max, MayBlock(false)).or_else(|error| self.or_too_slow(error));
        let data = match self.received(max)? {
            Some(data) => data,
            None => recv().map_err(|error| self.noted(error))?,
        };
        self.note_received(data.len());
        Ok(data)
    }

    /// [`try_recv`](Self::try_recv) for a task, which is woken when there is something.
    pub(crate) fn poll_recv(&self, max: usize, context: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let received = ready!(self.poll_until_done(Interest::READABLE, context, || self.try_recv(max)));
        if max > 0 && received.as_ref().is_ok_and(Vec::is_empty) {
            self.is_at_end.store(true, Relaxed);
        }
        Poll::Ready(received)
    }

    /// How much of `data` the kernel has taken; a task is woken when it takes some.
    pub(crate) fn poll_send(&self, data: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_until_done(Interest::WRITABLE, context, || self.try_send(data))
    }

    /// Whether the kernel has taken all that was sent; a task is woken when it has taken more.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_until_done(Interest::WRITABLE, context, || match self.send_unsent()? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    /// Notes that the client was waited for so long; how much longer it may be, if there is a least that it has to keep.
    pub(crate) fn waited(&self, time: Duration) -> Option<Duration> {
        let pace = self.pace.as_deref()?;
        pace.spend(time);
        Some(pace.may_wait())
    }

    fn poll_until_done<T>(
        &self,
        interest: Interest,
        context: &mut Context<'_>,
        operation: impl Fn() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_ready(interest, context))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// To want to wait for a client that was waited for too long is an error.
    fn or_too_slow<T>(&self, error: io::Error) -> io::Result<T> {
        match &self.pace {
            Some(pace) if error.kind() == io::ErrorKind::WouldBlock => pace.check().and(Err(error)),
            _ => Err(error),
        }
    }

    /// Waits in tokio until there is something to read, if only the end.
    pub(crate) async fn readable(&self, deadline: Option<Instant>) -> io::Result<()> {
        let is_readable = || match self.protection() {
            Ok(Some(protection)) => protection.is_readable(self.socket()),
            Ok(None) => false,
            Err(_) => true,
        };
        // What has been received may be there already, and what the socket has may be less than a record.
        while !is_readable() {
            self.ready(Interest::READABLE, deadline).await.map_err(|error| self.noted(error))?;
            // It was ready at once if the client has been waited for too long, and would be again and again.
            if !self.is_protected() || self.is_too_slow() {
                break;
            }
        }
        Ok(())
    }

    /// Ends as if there were something when the client has been waited for too long: the operation says so.
    async fn ready(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        let ready = self.socket.ready(interest, deadline);
        match self.pace.as_deref().map(Pace::wait) {
            None => ready.await,
            Some(waiting) => match waiting.deadline() {
                None => ready.await,
                Some(at) => tokio::time::timeout_at(at.into(), ready).await.unwrap_or(Ok(())),
            },
        }
    }

    /// Whether all that was kept is sent by now, and there is room for more; never blocks.
    pub(crate) fn has_room(&self) -> io::Result<bool> {
        Ok(self.send_unsent()? && self.is_writable()?)
    }

    fn is_writable(&self) -> io::Result<bool> {
        match &self.pace {
            _ if self.socket.is_ready(Interest::WRITABLE) => Ok(true),
            Some(pace) => pace.check().map(|()| false).map_err(|error| self.noted(error)),
            None => Ok(false),
        }
    }

    /// Waits in tokio until all that was kept is sent and there is room for more.
    pub(crate) async fn writable(&self, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let ready = self.ready(Interest::WRITABLE, deadline).await;
            ready.map_err(|error| self.noted(error))?;
            if self.send_unsent()? {
                return Ok(());
            }
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(shutdown(self.socket(), how)?)
    }

    pub(super) fn client_fault(&self) -> Option<ClientFault> {
        *self.client_fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self, error: io::Error) -> io::Error {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut};
        let fault = match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset => ClientFault::Went,
            TimedOut if self.is_too_slow() => ClientFault::Slow,
            TimedOut => ClientFault::Silent,
            _ if error.get_ref().is_some_and(|error| error.is::<TlsError>()) => ClientFault::Tls,
            _ => return error,
        };
        self.note_fault(fault);
        error
    }

    fn note_fault(&self, fault: ClientFault) {
        let mut noted = self.client_fault.lock().unwrap_or_else(PoisonError::into_inner);
        // What fails after a handshake that did not end fails of that.
        if !matches!(*noted, Some(ClientFault::Unprotected(_))) {
            *noted = Some(fault);
        }
    }

    /// Reads away what has come; whether there was something, so that more may come.
    pub(super) fn discard_unread(&self) -> bool {
        if self.is_at_end.load(Relaxed) {
            return false;
        }
        let is_sending = self.discard();
        if !is_sending {
            self.end_input();
        }
        is_sending
    }

    fn discard(&self) -> bool {
        self.recv_raw(RECV_MAX, MayBlock(false)).is_ok_and(|data| !data.is_empty())
    }

    /// Has nothing come any more, so that nothing is unread when it is closed: what comes just then would reset the
    /// connection. On a Unix socket the client would read that in place of the end; over TCP the end has come before.
    fn end_input(&self) {
        if socket_domain(self.socket()) == Ok(AddressFamily::UNIX) {
            let _ = self.shutdown(Shutdown::Read);
            while self.discard() {}
        }
    }

    /// Reads away what goes on coming, within bounds.
    pub(super) async fn linger(&self, waits: Waits) {
        let read = |may_block| Ok(self.recv_raw(RECV_MAX, may_block)?.len());
        let deadline = Instant::now() + LINGER_TIME;
        let patience = Patience { waits, deadline: Some(deadline) };
        let mut dropped = 0;
        while dropped < LINGER_BYTES && Instant::now() < deadline {
            match self.socket.until_done(Interest::READABLE, patience, read).await {
                Ok(0) => return,
                Ok(length) => dropped += length,
                Err(_) => break,
            }
        }
        self.end_input();
    }
}

fn none_if_full(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}
