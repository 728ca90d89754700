//! Waiting for a socket: in `poll(2)` on a thread of one's own, or in tokio among other tasks.

#![allow(unsafe_code, reason = "a descriptor is registered that outlives its registration")]

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep_until};

use crate::wake::{is_ready, poll_until};

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// On a thread that serves nothing else meanwhile.
    Thread,
    /// In a tokio task that shares its thread.
    Task,
}

/// Whether a system call may wait in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MayBlock(pub(crate) bool);

impl MayBlock {
    pub(super) fn recv_flags(self) -> RecvFlags {
        if self.0 { RecvFlags::empty() } else { RecvFlags::DONTWAIT }
    }

    pub(super) fn send_flags(self) -> SendFlags {
        // The host outlives a client that has gone: no SIGPIPE.
        if self.0 { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT }
    }
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
    /// If it is one request's alone.
    own: Option<OwnTimes>,
    /// The operation that has just been done has left nothing to read.
    is_emptied: AtomicBool,
    socket: S,
}

/// What lets one request wait for its connection, operation after operation, at little cost.
#[derive(Debug)]
struct OwnTimes {
    /// `SO_RCVTIMEO` and `SO_SNDTIMEO`: the socket blocks, and a thread waits in the operation itself.
    kernel: [KernelTimeout; 2],
    /// A task's. To move a timer back costs next to nothing, to register one a lock that all tasks want.
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

/// How long the kernel lets one direction wait, in microseconds; 0 is for ever, as it is there.
#[derive(Debug)]
struct KernelTimeout(AtomicU64);

/// A kernel timeout that is this much too long is left as it is: to set it costs a system call.
const SLACK: Duration = Duration::from_millis(20);

impl<S: AsFd> Waitable<S> {
    /// A socket in non-blocking mode.
    pub(crate) fn non_blocking(socket: S) -> Self {
        Self { registered: OnceLock::new(), own: None, is_emptied: AtomicBool::new(false), socket }
    }

    /// One request's own socket, in blocking mode; its timeouts in the kernel are set to `timeout`.
    pub(crate) fn blocking(socket: S, timeout: Option<Duration>) -> Self {
        let kernel = [(); 2].map(|()| KernelTimeout(AtomicU64::new(micros(timeout))));
        let own = Some(OwnTimes { kernel, timer: Mutex::default() });
        Self { own, ..Self::non_blocking(socket) }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// For an operation to say: there is nothing more to read, so that the next wait need not try.
    pub(crate) fn note_emptied(&self) {
        self.is_emptied.store(true, Relaxed);
    }

    pub(crate) fn is_ready(&self, interest: Interest) -> bool {
        is_ready(self.socket.as_fd(), events(interest))
    }

    /// Repeats `operation` until it does not want to wait any more. It is told whether it may block, and says `Interrupted`
    /// where it has got on without an end. `TimedOut` if the deadline passes first.
    pub(crate) async fn until_done<T>(
        &self,
        interest: Interest,
        patience: Patience,
        operation: impl FnMut(MayBlock) -> io::Result<T>,
    ) -> io::Result<T> {
        match patience.waits {
            Waits::Thread => self.until_done_on_thread(interest, patience.deadline, operation),
            Waits::Task => {
                let done = self.until_done_in_task(interest, operation);
                match (&self.own, patience.deadline) {
                    (Some(own), Some(deadline)) => own.within(deadline.into(), done).await,
                    (_, deadline) => within(deadline, done).await,
                }
            }
        }
    }

    fn until_done_on_thread<T>(
        &self,
        interest: Interest,
        deadline: Option<Instant>,
        mut operation: impl FnMut(MayBlock) -> io::Result<T>,
    ) -> io::Result<T> {
        let may_block = MayBlock(self.own.is_some());
        loop {
            self.set_kernel_timeout(interest, deadline)?;
            match operation(may_block) {
                // A child's ticker interrupts it more often than the kernel's timeout could end it.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if deadline.is_some_and(|at| Instant::now() >= at) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.socket, events(interest))];
                    if !poll_until(&mut fds, deadline)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                done => return done,
            }
        }
    }

    /// Lets the kernel end a wait at about the deadline.
    fn set_kernel_timeout(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let timeout = &own.kernel[usize::from(interest.is_writable())].0;
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let (wanted, now) = (micros(left), timeout.load(Relaxed));
        let is_fine = match (wanted, now) {
            (0, now) => now == 0,
            (_, 0) => false,
            (wanted, now) => now <= wanted + SLACK.as_micros() as u64 && now >= wanted / 2,
        };
        if !is_fine {
            let direction = if interest.is_writable() { Timeout::Send } else { Timeout::Recv };
            set_socket_timeout(&self.socket, direction, left.map(|left| left.max(Duration::from_micros(1))))?;
            timeout.store(wanted, Relaxed);
        }
        Ok(())
    }

    async fn until_done_in_task<T>(
        &self,
        interest: Interest,
        mut operation: impl FnMut(MayBlock) -> io::Result<T>,
    ) -> io::Result<T> {
        // The first time there is most likely something, and perhaps nothing ever has to wait.
        if self.registered.get().is_none() {
            match operation(MayBlock(false)) {
                Err(error) if is_to_be_repeated(&error) => {}
                done => return done,
            }
        }
        let registered = self.registered()?;
        loop {
            let mut guard = registered.ready(interest).await?;
            self.is_emptied.store(false, Relaxed);
            match operation(MayBlock(false)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A short read does not say that there is no more: it also ends before urgent data, or before bytes
                // that came with descriptors.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                done => {
                    if self.is_emptied.load(Relaxed) {
                        guard.clear_ready();
                    }
                    return done;
                }
            }
        }
    }

    /// Waits in tokio, whatever the strategy, so that a guest can poll the socket together with a timer.
    /// `TimedOut` if the deadline passes first.
    pub(crate) async fn ready(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        let ready = async {
            while !self.is_ready(interest) {
                let mut guard = self.registered()?.ready(interest).await?;
                if !self.is_ready(interest) {
                    guard.clear_ready();
                }
            }
            Ok(())
        };
        within(deadline, ready).await
    }

    /// Whether an operation that would have had to wait may be tried again; the task is woken when it may.
    pub(super) fn poll_ready(&self, interest: Interest, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let registered = self.registered()?;
        let mut guard = ready!(match interest.is_readable() {
            true => registered.poll_read_ready(context),
            false => registered.poll_write_ready(context),
        })?;
        guard.clear_ready();
        Poll::Ready(Ok(()))
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

impl OwnTimes {
    /// What comes of the one operation that waits in tokio; `TimedOut` if the deadline passes first.
    async fn within<T>(
        &self,
        deadline: tokio::time::Instant,
        operation: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut operation = pin!(operation);
        poll_fn(|context| {
            if let Poll::Ready(done) = operation.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }
}

/// What comes of `operation`, which waits in tokio; `TimedOut` if the deadline passes first.
async fn within<T>(
    deadline: Option<Instant>,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match deadline {
        None => operation.await,
        Some(at) => tokio::time::timeout_at(at.into(), operation)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    }
}

/// Whether an operation has to wait, or has got on without an end.
fn is_to_be_repeated(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn micros(timeout: Option<Duration>) -> u64 {
    timeout.map_or(0, |timeout| timeout.as_micros().clamp(1, u64::MAX.into()) as u64)
}

fn events(interest: Interest) -> PollFlags {
    if interest.is_readable() { PollFlags::IN } else { PollFlags::OUT }
}
