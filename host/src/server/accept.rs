//! Waits for the next request: the only place where a server blocks while it has nothing to do.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::orders::Orders;
use crate::admission::Admission;
use crate::clients::{Clients, Refusal};
use crate::error::ServeError;
use crate::listener::{Incoming, Listener};
use crate::log_limit::LogLimit;
use crate::request::{Request, Waits};
use crate::slot::Slot;

use crate::wake::poll_until;

/// How long accepting pauses when the system has run out of something, unless a request ends before.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes requests from a listener while there is room for them.
#[derive(Debug)]
pub(super) struct Acceptor<'a> {
    listener: &'a Listener,
    clients: &'a Clients,
    admission: &'a Arc<Admission>,
    slot: &'a Slot,
    orders: &'a Orders,
    waits: Waits,
    /// Accepted, and not turned away, but there is no room for it yet.
    newcomer: Option<Request>,
    said_full: LogLimit,
    said_exhausted: LogLimit,
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
        clients: &'a Clients,
        admission: &'a Arc<Admission>,
        slot: &'a Slot,
        orders: &'a Orders,
        waits: Waits,
    ) -> Self {
        let (newcomer, said_full, said_exhausted) = Default::default();
        Self { listener, clients, admission, slot, orders, waits, newcomer, said_full, said_exhausted }
    }

    /// `socketserver`'s `get_request`: waits for the next one, at most until the deadline.
    pub(super) fn get_request(&mut self, deadline: Option<Instant>) -> Result<Accepted, ServeError> {
        loop {
            if self.orders.is_stopped() {
                return Ok(Accepted::Stopped);
            }
            let permit = self.admission.admit(&self.orders.wake);
            // Asked when it has the permit: what is accepted all the same is counted as open by then.
            if self.orders.is_paused() {
                drop(permit);
                if !self.wait(false, deadline)? {
                    return Ok(Accepted::TimedOut);
                }
                continue;
            }
            if permit.is_none() {
                self.say_full();
            }
            // Without room only those are accepted who may be turned away at once; the first who is not stays
            // here, and the rest in the listen queue.
            let may_look = self.newcomer.is_none() && (permit.is_some() || self.clients.are_choosy());
            if may_look {
                match self.look() {
                    Ok(Look::Newcomer(request)) => self.newcomer = Some(*request),
                    Ok(Look::TurnedAway) if deadline.is_some_and(|at| Instant::now() >= at) => {
                        return Ok(Accepted::TimedOut);
                    }
                    Ok(Look::TurnedAway) => continue,
                    Ok(Look::Nobody) => {}
                    Err(error) => {
                        drop(permit);
                        self.recover(error, deadline)?;
                        continue;
                    }
                }
            }
            match (self.newcomer.take(), permit) {
                (Some(mut request), Some(permit)) => {
                    request.permit = Some(permit.in_use());
                    request.waits = self.waits;
                    request.version = Some(self.slot.take());
                    return Ok(Accepted::Request(Arc::new(request)));
                }
                (newcomer, _) => self.newcomer = newcomer,
            }
            if !self.wait(may_look && self.newcomer.is_none(), deadline)? {
                return Ok(Accepted::TimedOut);
            }
        }
    }

    /// Takes what the listener has and turns away who is not to be served; never blocks.
    fn look(&self) -> io::Result<Look> {
        // Counted before the client sees a close.
        let refused = |refusal, client: &_| self.clients.refusals().note(&refusal, client);
        match self.listener.get_request()? {
            Incoming::Nothing => return Ok(Look::Nobody),
            Incoming::Request(mut request) => match self.clients.admit(&mut request) {
                Ok(()) => return Ok(Look::Newcomer(Box::new(request))),
                Err(refusal) => refused(refusal, request.client_address()),
            },
            Incoming::TooLarge { client_address, length } => {
                refused(Refusal::TooLarge(length), &client_address);
            }
            Incoming::BadProxyHeader { request, reason } => {
                refused(Refusal::ProxyHeader(reason), request.client_address());
            }
        }
        Ok(Look::TurnedAway)
    }

    fn say_full(&mut self) {
        self.said_full.run(|_| {
            let max = self.admission.max();
            tracing::warn!("{max} requests are open, the most allowed: new ones wait in the listen queue");
        });
    }

    /// Waits until there is something to look at; `false` if the deadline passes first.
    fn wait(&self, may_look: bool, deadline: Option<Instant>) -> Result<bool, ServeError> {
        let listener = self.listener.ready_fd();
        let mut fds = [
            PollFd::new(&*self.orders.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(listener, PollFlags::IN),
        ];
        let fds = if may_look { &mut fds[..] } else { &mut fds[..1] };
        let look_at = self.listener.next_deadline().filter(|_| may_look);
        let until = [deadline, look_at].into_iter().flatten().min();
        let is_ready = poll_until(fds, until).map_err(ServeError::Listener)? || until != deadline;
        if fds[0].revents().contains(PollFlags::IN) {
            self.orders.wake.clear();
        }
        Ok(is_ready)
    }

    /// A failed accept is the client's fault, or the system's for the moment, or else the listener's.
    fn recover(&mut self, error: io::Error, deadline: Option<Instant>) -> Result<(), ServeError> {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.said_exhausted.run(|_| {
                    tracing::error!(
                        "cannot accept: {error}; accepting again as open requests end (raise `ulimit -n` or \
                         lower --max-requests)"
                    );
                });
                self.admission.wake_on_end(&self.orders.wake);
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

/// A newcomer that found no room is there for whoever accepts next.
impl Drop for Acceptor<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.newcomer.take() {
            self.listener.put_back(request);
        }
    }
}

/// What there was to look at.
enum Look {
    Newcomer(Box<Request>),
    TurnedAway,
    Nobody,
}
