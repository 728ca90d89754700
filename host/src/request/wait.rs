//! Waiting for a socket: in `poll(2)` on a thread of one's own, or in tokio among other tasks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::wake::{is_ready, poll_until};

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// On a thread that serves nothing else meanwhile.
    Thread,
    /// In a tokio task that shares its thread.
    Task,
}

/// How and how long one operation waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) waits: Waits,
    pub(crate) deadline: Option<Instant>,
}

/// A socket that can be waited for. It is registered with tokio only when something has to wait there.
#[derive(Debug)]
pub(crate) struct Waitable<S> {
    /// Declared before the socket, so that it is dropped before the descriptor is closed.
    registered: OnceLock<AsyncFd<RawFd>>,
    socket: S,
}

impl<S: AsFd> Waitable<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { registered: OnceLock::new(), socket }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    pub(crate) fn is_ready(&self, interest: Interest) -> bool {
        is_ready(self.socket.as_fd(), events(interest))
    }

    /// Repeats `operation`, which must not block, until it does not want to wait any more.
    ///
    /// `TimedOut` if the deadline passes first.
    pub(crate) async fn until_done<T>(
        &self,
        interest: Interest,
        patience: Patience,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let timed_out = || Err(io::ErrorKind::TimedOut.into());
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            match patience.waits {
                Waits::Thread => {
                    let mut fds = [PollFd::new(&self.socket, events(interest))];
                    if !poll_until(&mut fds, patience.deadline)? {
                        return timed_out();
                    }
                }
                Waits::Task => {
                    let operation = self.registered()?.async_io(interest, |_| operation());
                    return match patience.deadline {
                        None => operation.await,
                        Some(at) => tokio::time::timeout_at(at.into(), operation)
                            .await
                            .unwrap_or_else(|_| timed_out()),
                    };
                }
            }
        }
    }

    /// Waits in tokio, whatever the strategy, so that a guest can poll the socket together with a timer.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<()> {
        while !self.is_ready(interest) {
            let mut guard = self.registered()?.ready(interest).await?;
            if !self.is_ready(interest) {
                guard.clear_ready();
            }
        }
        Ok(())
    }

    fn registered(&self) -> io::Result<&AsyncFd<RawFd>> {
        if self.registered.get().is_none() {
            // SAFETY: `socket` keeps the descriptor open for as long as `self` lives; it is never replaced,
            // and it is dropped after `registered`.
            let registered = unsafe { AsyncFd::register(self.socket.as_fd().as_raw_fd())? };
            let _ = self.registered.set(registered);
        }
        Ok(self.registered.get().expect("it was set above"))
    }
}

fn events(interest: Interest) -> PollFlags {
    if interest.is_readable() { PollFlags::IN } else { PollFlags::OUT }
}
