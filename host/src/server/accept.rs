//! Waits for the next request: the only place where a server blocks while it has nothing to do.
//!
//! ```text
//!  listening socket ─▶ PROXY header ─▶ client limits ─▶ newcomer ─▶ room ─▶ job
//! ```

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::control::LoopControl;
use crate::admission::Admission;
use crate::clients::{ProxyHeaders, Refusal, SourceCount};
use crate::error::{ServeError, is_exhausted};
use crate::events::{EventKind, emit};
use crate::job::{Job, Service};
use crate::listener::{Incoming, Listener};
use crate::log_limit::LogLimit;
use crate::request::Request;
use crate::wake::poll_until;

/// How long accepting pauses when the system has run out of something, unless a request ends before.
const PAUSE: Duration = Duration::from_millis(100);

/// What an accept loop has in its hands. It stays with the server from one loop to the next.
#[derive(Debug)]
pub(super) struct Entrance {
    /// Connections whose PROXY header is under way.
    headers: Option<ProxyHeaders>,
    newcomer: Option<Newcomer>,
    said_full: LogLimit,
    said_exhausted: LogLimit,
}

/// Accepted, and not turned away; there may be no room for it yet. What it was charged for it is charged once.
#[derive(Debug)]
struct Newcomer {
    request: Request,
    source: Option<SourceCount>,
    /// When it came, if that is measured.
    since: Option<Instant>,
}

impl Entrance {
    pub(super) fn new(headers: Option<ProxyHeaders>) -> Self {
        let (newcomer, said_full, said_exhausted) = Default::default();
        Self { headers, newcomer, said_full, said_exhausted }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.newcomer.is_none() && self.headers.as_ref().is_none_or(ProxyHeaders::is_empty)
    }
}

/// Takes requests from a listener while there is room for them.
pub(super) struct Acceptor<'a> {
    /// `None` where only what is in the entrance is still to be served.
    pub(super) listener: Option<&'a Listener>,
    pub(super) service: &'a Arc<Service>,
    pub(super) admission: &'a Admission,
    pub(super) control: &'a LoopControl,
    /// Whether to let other threads run once before a wait: under load others come meanwhile, who then need not wake
    /// this one.
    pub(super) yields: bool,
    /// Whether a wait has just ended with somebody at the listener.
    pub(super) is_ready: bool,
    pub(super) entrance: &'a mut Entrance,
}

/// What came of waiting.
pub(super) enum Accepted {
    Request(Job),
    TimedOut,
    Stopped,
}

impl Acceptor<'_> {
    /// Waits for the next request, at most until the deadline.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<Accepted, ServeError> {
        let mut may_yield = self.yields;
        loop {
            let is_over = match self.listener {
                Some(_) => self.control.is_stopped(),
                None => self.entrance.is_empty(),
            };
            if is_over {
                return Ok(Accepted::Stopped);
            }
            self.control.set_busy(true);
            self.control.set_turned();
            let listener = self.listener.filter(|_| !self.control.is_paused());
            // Without room only those are accepted who may be turned away at once; the first who is not stays
            // here, and the rest in the listen queue.
            let may_look =
                self.entrance.newcomer.is_none() && (self.has_room() || self.service.clients.are_choosy());
            if may_look {
                match self.look(listener) {
                    Ok(false) => {}
                    Ok(true) if deadline.is_some_and(|at| Instant::now() >= at) => {
                        return Ok(Accepted::TimedOut);
                    }
                    Ok(true) => continue,
                    Err(error) => {
                        self.recover(error, deadline)?;
                        continue;
                    }
                }
            }
            if let Some(job) = self.admit_newcomer() {
                return Ok(Accepted::Request(job));
            }
            let may_look = may_look && self.entrance.newcomer.is_none();
            if may_look && may_yield {
                may_yield = false;
                if !self.wait(listener, true, Some(Instant::now()))? {
                    thread::yield_now();
                }
                continue;
            }
            if !self.wait(listener.filter(|_| may_look), may_look, deadline)? {
                return Ok(Accepted::TimedOut);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.admission.has_room(&self.control.wake);
        if !has_room {
            self.say_full();
        }
        has_room
    }

    /// The newcomer as a request with room, if there is one and there is some.
    fn admit_newcomer(&mut self) -> Option<Job> {
        let newcomer = self.entrance.newcomer.take()?;
        match self.admission.admit(&self.control.wake) {
            Some(permit) => {
                if let Some(since) = newcomer.since {
                    self.service.counts.room_wait.record(since.elapsed());
                }
                let Newcomer { request, source, since } = newcomer;
                Some(Job::new(self.service, request, source, since, permit))
            }
            None => {
                self.entrance.newcomer = Some(newcomer);
                self.say_full();
                None
            }
        }
    }

    /// Takes what there is: a newcomer, or somebody who is turned away or has to wait for a header; whether there may be
    /// more behind. Never blocks.
    fn look(&mut self, listener: Option<&Listener>) -> io::Result<bool> {
        // To accept in vain costs eight times a wait for nobody: the kernel makes a connection before it looks for one. A packet
        // costs no more to ask for than to wait for.
        let is_ready = std::mem::take(&mut self.is_ready);
        let listener = listener.filter(|listener| is_ready || listener.server_type().is_datagram());
        let refusals = self.service.clients.refusals();
        let request = match self.next_with_header()? {
            Some(Ok(request)) => request,
            Some(Err((request, reason))) => {
                // Counted before the client sees a close, here and below.
                refusals.note(&Refusal::ProxyHeader(reason), request.client_address());
                return Ok(true);
            }
            None => match listener.map_or(Ok(Incoming::Nothing), Listener::accept)? {
                Incoming::Nothing => return Ok(false),
                Incoming::TooLarge { client_address, length } => {
                    refusals.note(&Refusal::TooLarge(length), &client_address);
                    return Ok(true);
                }
                Incoming::Request(request) => match &mut self.entrance.headers {
                    Some(headers) if headers.concern(&request) => {
                        headers.expect(request)?;
                        return Ok(true);
                    }
                    _ => request,
                },
            },
        };
        match self.service.clients.admit(&request) {
            Ok(source) => {
                let since = self.service.info.is_measured.then(Instant::now);
                self.entrance.newcomer = Some(Newcomer { request, source, since });
                Ok(false)
            }
            Err(refusal) => {
                refusals.note(&refusal, request.client_address());
                Ok(true)
            }
        }
    }

    fn next_with_header(&mut self) -> io::Result<Option<Result<Request, (Request, &'static str)>>> {
        self.entrance.headers.as_mut().map_or(Ok(None), ProxyHeaders::next)
    }

    fn say_full(&mut self) {
        let max = self.admission.max();
        self.entrance.said_full.run(|_| {
            let address = || self.service.info.address().to_string();
            emit(|| EventKind::Full { address: address(), max: max as u64, count: 1 });
            tracing::warn!("{max} requests are open, the most allowed: new ones wait in the listen queue");
        });
    }

    /// Waits until there is something to look at; `false` if the deadline passes first.
    fn wait(
        &mut self,
        listener: Option<&Listener>,
        may_look: bool,
        deadline: Option<Instant>,
    ) -> Result<bool, ServeError> {
        let headers = self.entrance.headers.as_ref().filter(|headers| may_look && !headers.is_empty());
        let mut fds = vec![PollFd::new(&*self.control.wake, PollFlags::IN)];
        fds.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        fds.extend(headers.map(|headers| PollFd::new(headers, PollFlags::IN)));
        let look_at = headers.and_then(ProxyHeaders::next_deadline);
        let until = [deadline, look_at].into_iter().flatten().min();
        self.control.set_busy(!self.entrance.is_empty());
        let has_come = poll_until(&mut fds, until).map_err(ServeError::Listener)? || until != deadline;
        self.is_ready = listener.is_some() && !fds[1].revents().is_empty();
        if fds[0].revents().contains(PollFlags::IN) {
            self.control.wake.clear();
        }
        Ok(has_come)
    }

    /// A failed accept is the client's fault, or the system's for the moment, or else the listener's.
    fn recover(&mut self, error: io::Error, deadline: Option<Instant>) -> Result<(), ServeError> {
        match Errno::from_io_error(&error) {
            _ if is_exhausted(&error) => {
                self.entrance.said_exhausted.run(|_| {
                    tracing::error!(
                        "cannot accept: {error}; accepting again as open requests end (raise `ulimit -n` or \
                         lower --max-requests)"
                    );
                });
                self.admission.wake_on_end(&self.control.wake);
                self.pause(deadline)
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

    /// Looks at nothing for a while, unless a request ends or it is woken.
    pub(super) fn pause(&mut self, deadline: Option<Instant>) -> Result<(), ServeError> {
        let pause = Instant::now() + PAUSE;
        self.wait(None, false, Some(deadline.map_or(pause, |at| at.min(pause)))).map(drop)
    }
}
