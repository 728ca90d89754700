//! How a server ends: it stops accepting, serves what it had accepted, and waits for what is open.

use std::sync::PoisonError;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, bounded};

use super::accept::Accepted;
use super::{Accepting, Held, Server};
use crate::error::Limit;
use crate::events::EventKind;
use crate::job::isolated;

/// How long a close waits for requests that were cut off, and after what time it cuts off those that have just
/// begun.
const CUT_TIME: Duration = Duration::from_secs(3);
const CUT_AGAIN: Duration = Duration::from_millis(100);

impl Server {
    /// Ends `serve_forever`, which may run in another thread, and waits for its end. Open requests go on. If
    /// it does not run, its next call ends at once.
    pub fn shutdown(&self) {
        self.request_shutdown();
        drop(self.has_entrance.wait_while(self.held(), |held| matches!(held, Held::By(_))));
    }

    /// Like [`shutdown`](Self::shutdown) without the wait: also for the serving thread itself.
    pub fn request_shutdown(&self) {
        self.control.stop();
    }

    /// Closes the listening socket and, where the strategy is asked to (`block_on_close`), serves what was accepted and
    /// waits for open requests.
    pub fn server_close(&self) {
        self.close_listener();
        if self.concurrency.waits_on_close() {
            self.serve_accepted(None, thread::current().id());
            self.service.open.wait_until_none(None);
        }
    }

    /// Closes the listening socket, serves what was accepted and not begun with, waits at most `timeout` for open
    /// requests and cuts off the rest; how many.
    pub fn server_close_within(&self, timeout: Duration) -> usize {
        let deadline = Instant::now().checked_add(timeout);
        self.close_listener();
        let caller = thread::current().id();
        thread::scope(|scope| {
            let (done, is_done) = bounded::<()>(0);
            let serve = move || {
                self.serve_accepted(deadline, caller);
                drop(done);
            };
            // Not on this thread, since with `sync` it serves: what it serves is cut off in time, as all are.
            if let Err(error) = thread::Builder::new().name("closing".to_owned()).spawn_scoped(scope, serve) {
                tracing::warn!("what was accepted and not begun with is given up: no thread for it: {error}");
            }
            let is_begun = match deadline {
                Some(at) => is_done.recv_deadline(at) != Err(RecvTimeoutError::Timeout),
                None => is_done.recv().is_err(),
            };
            if self.service.open.wait_until_none(deadline) && is_begun {
                return 0;
            }
            let end = Instant::now() + CUT_TIME;
            let mut cut = 0;
            loop {
                cut += self.service.exchanges.cut(Limit::Closing, None);
                cut += self.service.open.cut(Limit::Closing, None);
                // A request that was cut ends within a tick, or when its system call returns.
                if self.service.open.wait_until_none(Some(Instant::now() + CUT_AGAIN))
                    || Instant::now() >= end
                {
                    return cut;
                }
            }
        })
    }

    /// Stops who accepts, too.
    fn close_listener(&self) {
        let listener = self.listener.write().unwrap_or_else(PoisonError::into_inner).take();
        if listener.is_some() {
            self.tell(|address| EventKind::Closed { address });
        }
        drop(listener);
        // Connections that wait for a further request wait no longer.
        self.service.closing.set_paused(true);
        if let Held::By(_) = *self.held() {
            self.control.stop();
        }
    }

    /// Serves what was accepted, as there is room for it.
    fn serve_accepted(&self, deadline: Option<Instant>, caller: ThreadId) {
        let Some(mut accepting) = self.accepting_after(deadline, caller) else { return };
        while let Ok(Accepted::Request(job)) = self.acceptor(None, &mut accepting).next(deadline) {
            // Nothing is started anew for it.
            isolated("serving what was accepted", || self.verify_and_process(job).is_ok());
        }
    }

    /// The entrance, when whoever accepts has stopped; `None` if that is not in time, or if it is the caller itself.
    fn accepting_after(&self, deadline: Option<Instant>, caller: ThreadId) -> Option<Accepting<'_>> {
        let mut held = self.held();
        loop {
            match (&*held, deadline.map(|at| at.saturating_duration_since(Instant::now()))) {
                (Held::Here(_), _) => return self.take_entrance(&mut held),
                (Held::By(thread), _) if *thread == caller => return None,
                (Held::By(_), Some(Duration::ZERO)) => return None,
                (Held::By(_), left) => {
                    held = match left {
                        None => self.has_entrance.wait(held).unwrap_or_else(PoisonError::into_inner),
                        Some(left) => {
                            let waited = self.has_entrance.wait_timeout(held, left);
                            waited.unwrap_or_else(PoisonError::into_inner).0
                        }
                    };
                }
            }
        }
    }
}
