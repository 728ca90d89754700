//! A connection: TCP or Unix stream.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::Socket;
use tokio::io::Interest;

use super::pace::{MinRate, Pace};
use super::protection::{Handshake, Protection, Step, no_tls, plain_beginning};
use super::wait::{MayBlock, Patience, Waitable, Waits};
use crate::tls::{Keeper, TlsError, TlsInfo, Wanted};

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

/// What a connection may be protected with.
#[derive(Clone, Debug)]
pub(crate) struct StreamTls {
    pub(crate) keeper: Arc<dyn Keeper>,
    /// Whether it is protected before its handler sees it.
    pub(crate) is_first: bool,
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
    tls: Option<StreamTls>,
    /// What another process has made of it there.
    protected_elsewhere: OnceLock<Box<TlsInfo>>,
    /// Once a handshake has begun that went beyond the operator's own matters, what it came to.
    protection: OnceLock<Result<Box<Protection>, Box<TlsError>>>,
}

impl Stream {
    /// An accepted socket in blocking mode, whose timeouts in the kernel are set to `timeout`.
    pub(crate) fn new(
        socket: Socket,
        timeout: Option<Duration>,
        min_rate: Option<MinRate>,
        tls: Option<StreamTls>,
    ) -> Self {
        Self {
            socket: Waitable::blocking(socket, timeout),
            is_at_end: AtomicBool::new(false),
            client_fault: Mutex::default(),
            pace: min_rate.map(|rate| Box::new(Pace::new(rate))),
            unsent: Mutex::default(),
            tls,
            protected_elsewhere: OnceLock::new(),
            protection: OnceLock::new(),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.socket.socket()
    }

    pub(super) async fn recv(&self, max: usize, patience: Patience) -> io::Result<Vec<u8>> {
        let max = max.min(RECV_MAX);
        // A task would wait for the socket before it looked at what has come already, or at why nothing will.
        let received = self.protection()?.map(|protection| protection.received(max)).transpose();
        let data = match received.map_err(|error| self.noted(error))?.flatten() {
            Some(data) => data,
            None => {
                let recv = |may_block| self.recv_now(max, may_block);
                self.until_done(Interest::READABLE, patience, recv).await?
            }
        };
        self.note_bytes(data.len());
        if data.is_empty() && max > 0 {
            self.is_at_end.store(true, Relaxed);
        }
        Ok(data)
    }

    fn recv_now(&self, max: usize, may_block: MayBlock) -> io::Result<Vec<u8>> {
        match self.protection()? {
            Some(protection) => protection.recv(&self.socket, max, may_block),
            None => self.recv_raw(max, may_block),
        }
    }

    fn recv_raw(&self, max: usize, may_block: MayBlock) -> io::Result<Vec<u8>> {
        let flags = if may_block.0 { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
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
            self.note_bytes(length);
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

    /// Has the socket take what TLS has made of what was sent.
    async fn flush(&self, patience: Patience) -> io::Result<()> {
        match self.protection()? {
            Some(protection) if !protection.is_flushed() => {
                let flush = |may_block| protection.flush(self.socket(), may_block);
                self.until_done(Interest::WRITABLE, patience, flush).await
            }
            _ => Ok(()),
        }
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

    fn note_bytes(&self, bytes: usize) {
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
        // The host outlives a client that has gone: no SIGPIPE.
        let flags = if may_block.0 { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
        Ok(send(self.socket(), data, flags)?)
    }

    /// What the kernel takes now; never blocks.
    fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        let sent = self.send_now(data, MayBlock(false)).or_else(|error| self.or_too_slow(error));
        let sent = sent.map_err(|error| self.noted(error))?;
        self.note_bytes(sent);
        Ok(sent)
    }

    /// What the kernel has now, at most `max` bytes; never blocks.
    pub(crate) fn try_recv(&self, max: usize) -> io::Result<Vec<u8>> {
        let received = self.recv_now(max.min(RECV_MAX), MayBlock(false));
        let data = received.or_else(|error| self.or_too_slow(error)).map_err(|error| self.noted(error))?;
        self.note_bytes(data.len());
        Ok(data)
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
            if self.protection.get().is_none() || self.is_too_slow() {
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

    pub(crate) fn is_writable(&self) -> io::Result<bool> {
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

    /// What a guest asks for: a client of TLS is told of the end first.
    pub(crate) async fn end(&self, how: Shutdown, patience: Patience) -> io::Result<()> {
        if let (Shutdown::Read | Shutdown::Both, Ok(Some(protection))) = (how, self.protection()) {
            protection.end_reading();
        }
        let said = if how == Shutdown::Read { Ok(()) } else { self.say_end(patience).await };
        self.shutdown(how).and(said)
    }

    /// Tells the client of a protected connection that nothing more comes. It waits like any send: a client that takes its
    /// time would else find the end of all that it got cut short.
    pub(super) async fn say_end(&self, patience: Patience) -> io::Result<()> {
        match self.protection.get() {
            Some(Ok(protection)) => {
                protection.say_end();
                self.flush(patience).await
            }
            _ => Ok(()),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(shutdown(self.socket(), how)?)
    }

    /// What may protect it.
    pub(crate) fn tls(&self) -> Option<&StreamTls> {
        self.tls.as_ref()
    }

    /// How it is protected, here or in the process that serves it.
    pub(crate) fn tls_info(&self) -> Option<&TlsInfo> {
        let here = self.protection.get().and_then(|protection| Some(protection.as_ref().ok()?.info()));
        here.or_else(|| self.protected_elsewhere.get().map(|info| &**info))
    }

    pub(crate) fn note_protection(&self, info: TlsInfo) {
        let _ = self.protected_elsewhere.set(Box::new(info));
    }

    /// Why it could not be protected, or is so no more.
    pub(crate) fn tls_error(&self) -> Option<&TlsError> {
        match self.protection.get()? {
            Ok(protection) => protection.failure(),
            Err(error) => Some(error),
        }
    }

    /// What everything goes through; an error where a handshake has failed, after which nothing goes at all.
    fn protection(&self) -> io::Result<Option<&Protection>> {
        match self.protection.get() {
            None => Ok(None),
            Some(Ok(protection)) => Ok(Some(protection)),
            Some(Err(error)) => Err(TlsError::clone(error).into()),
        }
    }

    /// Does the handshake, as its server.
    pub(super) async fn start_tls(&self, wanted: Wanted, patience: Patience) -> Result<&TlsInfo, TlsError> {
        let no_identity = || TlsError::NoIdentity("the server was started without --tls".to_owned());
        let keeper = &*self.tls.as_ref().ok_or_else(no_identity)?.keeper;
        match self.protection.get() {
            None => {}
            Some(Ok(_)) => return Err(TlsError::AlreadyProtected),
            Some(Err(error)) => return Err(TlsError::clone(error)),
        }
        let begun = Instant::now();
        let timeout = keeper.handshake_timeout();
        let deadline = [patience.deadline, begun.checked_add(timeout)].into_iter().flatten().min();
        let shaken = self.handshake(keeper, wanted, Patience { deadline, ..patience }).await;
        keeper.ended(&shaken.as_ref().map(|protection| protection.info().clone()).map_err(TlsError::clone));
        match shaken {
            Ok(protection) => {
                let protection = self.protection.get_or_init(|| Ok(Box::new(protection)));
                Ok(protection.as_ref().expect("it was set here").info())
            }
            // Nothing was said of it.
            Err(error @ TlsError::NoIdentity(_)) => Err(error),
            Err(error @ TlsError::Host(_)) => {
                let _ = self.protection.set(Err(Box::new(error.clone())));
                Err(error)
            }
            Err(error) => {
                let fault = match error {
                    TlsError::TimedOut if self.is_too_slow() => ClientFault::Slow,
                    TlsError::TimedOut => ClientFault::Unprotected(timeout),
                    _ => ClientFault::Tls,
                };
                self.note_fault(fault);
                let _ = self.protection.set(Err(Box::new(error.clone())));
                Err(error)
            }
        }
    }

    async fn handshake(
        &self,
        keeper: &dyn Keeper,
        wanted: Wanted,
        patience: Patience,
    ) -> Result<Protection, TlsError> {
        let is_first = self.tls.as_ref().is_some_and(|tls| tls.is_first);
        let mut handshake = Handshake::new(keeper, wanted)?;
        // A record that is not full would wait until the client has acknowledged the one before, which it may put off for 40 ms.
        let _ = self.socket().set_tcp_nodelay(true);
        // What `wfile` holds was written before.
        self.drain(patience).await.map_err(tls_error)?;
        let beginning = |may_block| plain_beginning(self.socket(), may_block);
        let beginning = self.until_done(Interest::READABLE, patience, beginning).await.map_err(tls_error)?;
        if let Some(beginning) = beginning {
            let error = no_tls(self.socket(), &beginning);
            return Err(if is_first { error } else { TlsError::UnprotectedBytes });
        }
        loop {
            // A client that always has another byte ready never makes anybody wait.
            if patience.deadline.is_some_and(|at| Instant::now() >= at) {
                return Err(TlsError::TimedOut);
            }
            let socket = self.socket();
            let stepped = match handshake.step() {
                Step::Done => break,
                Step::Read => {
                    let read = |may_block| handshake.read(socket, may_block);
                    self.until_done(Interest::READABLE, patience, read).await
                }
                Step::Write => {
                    let write = |may_block| handshake.write(socket, may_block);
                    self.until_done(Interest::WRITABLE, patience, write).await
                }
            };
            stepped.map_err(tls_error)?;
        }
        Ok(handshake.protection().expect("it is done"))
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

    /// Reads away what has come; whether there was something.
    pub(super) fn discard_unread(&self) -> bool {
        !self.is_at_end.load(Relaxed)
            && self.recv_raw(RECV_MAX, MayBlock(false)).is_ok_and(|data| !data.is_empty())
    }

    /// Reads away what goes on coming, within bounds.
    pub(super) async fn linger(&self, waits: Waits) {
        let read = |may_block| Ok(self.recv_raw(RECV_MAX, may_block)?.len());
        let deadline = Instant::now() + LINGER_TIME;
        let patience = Patience { waits, deadline: Some(deadline) };
        let mut dropped = 0;
        while dropped < LINGER_BYTES && Instant::now() < deadline {
            match self.socket.until_done(Interest::READABLE, patience, read).await {
                Ok(0) | Err(_) => return,
                Ok(length) => dropped += length,
            }
        }
    }
}

/// What a failed operation of a handshake is.
fn tls_error(error: io::Error) -> TlsError {
    match error.kind() {
        io::ErrorKind::TimedOut => TlsError::TimedOut,
        _ => match error.downcast::<TlsError>() {
            Ok(error) => error,
            Err(error) => TlsError::Connection(error.to_string()),
        },
    }
}

fn none_if_full(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}
