//! Waits for the next request: the only place where a server blocks while it has nothing to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::admission::Admission;
use crate::error::ServeError;
use crate::listener::{Incoming, Listener};
use crate::request::{Request, Waits};
use crate::slot::Slot;
use crate::wake::{Wake, poll_until};

/// How long accepting pauses when the system has run out of something, unless a request ends before.
const PAUSE: Duration = Duration::from_millis(100);

/// The same trouble is not logged again for so long.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Takes requests from a listener while there is room for them.
#[derive(Debug)]
pub(super) struct Acceptor<'a> {
    listener: &'a Listener,
    admission: &'a Arc<Admission>,
    slot: &'a Slot,
    wake: &'a Arc<Wake>,
    is_stopped: &'a AtomicBool,
    waits: Waits,
    said_full: LogLimit,
    said_exhausted: LogLimit,
    said_too_large: LogLimit,
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum Accepted {
    Request(Arc<Request>),
    TimedOut,
    Stopped,
}

impl<'a> Acceptor<'a> {
    pub(super) fn new(
        listener: &'a Listener,
        admission: &'a Arc<Admission>,
        slot: &'a Slot,
        wake: &'a Arc<Wake>,
        is_stopped: &'a AtomicBool,
        waits: Waits,
    ) -> Self {
        let (said_full, said_exhausted, said_too_large) = Default::default();
        Self { listener, admission, slot, wake, is_stopped, waits, said_full, said_exhausted, said_too_large }
    }

    /// `socketserver`'s `get_request`: waits for the next one, at most until the deadline.
    pub(super) fn get_request(&mut self, deadline: Option<Instant>) -> Result<Accepted, ServeError> {
        loop {
            if self.is_stopped.load(SeqCst) {
                return Ok(Accepted::Stopped);
            }
            let Some(permit) = self.admission.admit(self.wake) else {
                self.said_full.run(|| {
                    let max = self.admission.max();
                    tracing::warn!(
                        "{max} requests are open, the most allowed: new ones wait in the listen queue"
                    );
                });
                if !self.wait(false, deadline)? {
                    return Ok(Accepted::TimedOut);
                }
                continue;
            };
            match self.listener.get_request() {
                Ok(Incoming::Request(mut request)) => {
                    request.permit = Some(permit);
                    request.waits = self.waits;
                    request.version = Some(self.slot.take());
                    return Ok(Accepted::Request(Arc::new(request)));
                }
                Ok(Incoming::Nothing) => {
                    drop(permit);
                    if !self.wait(true, deadline)? {
                        return Ok(Accepted::TimedOut);
                    }
                }
                Ok(Incoming::TooLarge { client_address, length }) => self.said_too_large.run(|| {
                    tracing::warn!(client = %client_address, "dropped a datagram of {length} bytes, above max_packet_size");
                }),
                Err(error) => {
                    drop(permit);
                    self.recover(error, deadline)?;
                }
            }
        }
    }

    /// Waits until there is something to look at; `false` if the deadline passes first.
    fn wait(&self, has_room: bool, deadline: Option<Instant>) -> Result<bool, ServeError> {
        let mut fds = [PollFd::new(self.wake, PollFlags::IN), PollFd::new(self.listener, PollFlags::IN)];
        let fds = if has_room { &mut fds[..] } else { &mut fds[..1] };
        let is_ready = poll_until(fds, deadline).map_err(ServeError::Listener)?;
        if fds[0].revents().contains(PollFlags::IN) {
            self.wake.clear();
        }
        Ok(is_ready)
    }

    /// A failed accept is the client's fault, or the system's for the moment, or else the listener's.
    fn recover(&mut self, error: io::Error, deadline: Option<Instant>) -> Result<(), ServeError> {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.said_exhausted.run(|| {
                    tracing::error!(
                        "cannot accept: {error}; accepting again as open requests end (raise `ulimit -n` or \
                         lower --max-requests)"
                    );
                });
                self.admission.wake_on_leave(self.wake);
                let pause = Instant::now() + PAUSE;
                self.wait(false, Some(deadline.map_or(pause, |at| at.min(pause))))?;
                Ok(())
            }
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
                Err(ServeError::Listener(error))
            }
            // accept(2) also reports what befell the new connection, and recvmsg(2) what befell an earlier
            // reply. Both are over.
            _ => {
                tracing::debug!("a client went before it was accepted: {error}");
                Ok(())
            }
        }
    }
}

/// Lets a message through once in a while.
#[derive(Debug, Default)]
struct LogLimit(Option<Instant>);

impl LogLimit {
    fn run(&mut self, log: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            self.0 = Some(Instant::now());
            log();
        }
    }
}
