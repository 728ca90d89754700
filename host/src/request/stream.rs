//! A connection: TCP or Unix stream.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use socket2::Socket;
use tokio::io::Interest;

use super::wait::{Patience, Waitable, Waits};

/// The most that one `recv` brings; it bounds what a guest can make the host allocate.
const RECV_MAX: usize = 64 * 1024;

/// How long, and for how many bytes, a close waits for a client that is still sending.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Stream {
    socket: Waitable<Socket>,
    /// The client has sent all it will, so nothing unread can be left when the request ends.
    is_at_end: AtomicBool,
    is_client_gone: AtomicBool,
    /// What `wfile` took while the kernel's buffer was full; it goes out before anything else.
    unsent: Mutex<Vec<u8>>,
}

impl Stream {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket: Waitable::new(socket),
            is_at_end: AtomicBool::new(false),
            is_client_gone: AtomicBool::new(false),
            unsent: Mutex::default(),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        self.socket.socket()
    }

    pub(super) async fn recv(&self, max: usize, patience: Patience) -> io::Result<Vec<u8>> {
        let mut data = Vec::with_capacity(max.min(RECV_MAX));
        self.socket
            .until_done(Interest::READABLE, patience, || {
                Ok(recv(self.socket(), spare_capacity(&mut data), RecvFlags::DONTWAIT)?)
            })
            .await
            .map_err(|error| self.noted(error))?;
        if data.is_empty() && max > 0 {
            self.is_at_end.store(true, Relaxed);
        }
        Ok(data)
    }

    pub(super) async fn send_all(&self, mut data: &[u8], patience: Patience) -> io::Result<()> {
        self.drain(patience).await?;
        while !data.is_empty() {
            let send = || self.try_send(data);
            let sent = self.socket.until_done(Interest::WRITABLE, patience, send).await?;
            data = &data[sent..];
        }
        Ok(())
    }

    /// Sends what `wfile` left unsent.
    pub(super) async fn drain(&self, patience: Patience) -> io::Result<()> {
        let drain = || match self.send_unsent()? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        self.socket.until_done(Interest::WRITABLE, patience, drain).await
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
        Ok(unsent.is_empty())
    }

    fn unsent(&self) -> MutexGuard<'_, Vec<u8>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the kernel takes now; never blocks.
    fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        // The host outlives a client that has gone: no SIGPIPE.
        send(self.socket(), data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            .map_err(|error| self.noted(error.into()))
    }

    /// What the kernel has now, at most `max` bytes; never blocks.
    pub(crate) fn try_recv(&self, max: usize) -> io::Result<Vec<u8>> {
        let mut data = Vec::with_capacity(max.min(RECV_MAX));
        recv(self.socket(), spare_capacity(&mut data), RecvFlags::DONTWAIT)
            .map_err(|error| self.noted(error.into()))?;
        Ok(data)
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.ready(Interest::READABLE).await
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.socket.is_ready(Interest::WRITABLE)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.ready(Interest::WRITABLE).await
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(shutdown(self.socket(), how)?)
    }

    pub(super) fn is_client_gone(&self) -> bool {
        self.is_client_gone.load(Relaxed)
    }

    fn noted(&self, error: io::Error) -> io::Error {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) {
            self.is_client_gone.store(true, Relaxed);
        }
        error
    }

    /// Half-closes; then, if the client has sent what nobody read, reads it away for a moment.
    ///
    /// Closing a socket with unread input resets the connection, and a reset makes the client's kernel
    /// throw away an answer that the client has not read yet.
    pub(super) async fn finish(&self, waits: Waits) {
        if self.shutdown(Shutdown::Write).is_err() || self.is_at_end.load(Relaxed) {
            return;
        }
        let mut buffer = [0; 4096];
        let mut read = || Ok(recv(self.socket(), &mut buffer[..], RecvFlags::DONTWAIT)?.0);
        let Ok(mut unread) = read() else { return };
        let deadline = Instant::now() + LINGER_TIME;
        let mut dropped = 0;
        while unread > 0 && dropped < LINGER_BYTES && Instant::now() < deadline {
            dropped += unread;
            let patience = Patience { waits, deadline: Some(deadline) };
            unread = self.socket.until_done(Interest::READABLE, patience, &mut read).await.unwrap_or(0);
        }
    }
}

fn none_if_full(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}
