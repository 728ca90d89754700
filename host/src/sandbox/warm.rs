//! Instances made ahead of their requests (`--warm`), for handlers that are slow to instantiate. Each still serves
//! one request.
//!
//! A thread makes a new one for each that was taken. It holds its handler only while it makes one, and ends when
//! the handler is dropped. Where requests are forked there is no such thread: the fork server makes one instance,
//! and every child begins with its own copy of that.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use crossbeam::channel::{Sender, bounded};

use super::handler::{Handler, Live};
use crate::admission::{Bound, Room};

/// The instances that one handler has ready.
#[derive(Default)]
pub(super) struct Warm {
    ready: Mutex<Vec<Ready>>,
    /// How many there should be; none until somebody asks for them.
    wanted: AtomicUsize,
    /// Tells the thread that one was taken.
    taken: OnceLock<Sender<()>>,
}

struct Ready {
    live: Live,
    /// In the engine's pools, apart from that for open requests.
    _room: Room,
}

impl Warm {
    /// An instance to serve with, if one is ready.
    pub(super) fn take(&self) -> Option<Live> {
        let ready = self.ready().pop();
        if let Some(taken) = self.taken.get() {
            // If there is no room for the message, one is there already.
            let _ = taken.try_send(());
        }
        ready.map(|ready| ready.live)
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler {
    /// How many instances are ready for requests to come.
    pub fn warm_instances(&self) -> usize {
        self.0.warm.ready().len()
    }

    /// Makes as many instances as [`Limits::warm`](super::Limits::warm) says, and keeps their number up.
    pub(crate) fn keep_warm(&self) {
        let (sender, taken) = bounded(1);
        let wanted = self.sandbox().limits().warm;
        if wanted == 0 || self.0.warm.taken.set(sender).is_err() {
            return;
        }
        self.0.warm.wanted.store(wanted, Relaxed);
        while self.warm_one() {}
        let (ready, wanted) = (self.warm_instances(), self.0.warm.wanted.load(Relaxed));
        if ready < wanted {
            let name = self.name();
            tracing::warn!(
                "{ready} of {wanted} instances of {name} are ready ahead: others' have the places"
            );
        }
        let handler = Arc::downgrade(&self.0);
        let keep = move || {
            for () in taken {
                while handler.upgrade().is_some_and(|inner| Self(inner).warm_one()) {}
            }
        };
        if let Err(error) = thread::Builder::new().name("warm".to_owned()).spawn(keep) {
            tracing::warn!("instances of {} are not made ahead: no thread for it: {error}", self.name());
        }
    }

    /// Makes the instance that the children of a fork server begin with, if there are to be any.
    pub(crate) fn warm_to_fork(&self) {
        self.0.warm.wanted.store(self.sandbox().limits().warm.min(1), Relaxed);
        self.warm_one();
        if self.0.warm.ready().pop_if(|ready| ready.live.has_used_wasi()).is_some() {
            // With a copy of what it was told, all children would share their random numbers.
            self.not_ahead();
        }
    }

    /// Makes one more; whether that was wanted and done.
    fn warm_one(&self) -> bool {
        let warm = &self.0.warm;
        if warm.ready().len() >= warm.wanted.load(Relaxed) {
            return false;
        }
        // With all places taken, a request that ends makes room.
        let Some(room) = Bound::take(&self.sandbox().host().ahead) else { return false };
        match self.instantiate_ahead() {
            Ok(live) if self.is_command() && live.has_used_wasi() => {
                // It may have looked at its environment, which was not yet a request's.
                self.not_ahead();
                false
            }
            Ok(live) => {
                warm.ready().push(Ready { live, _room: room });
                true
            }
            Err(reason) => {
                tracing::warn!("cannot make an instance of {} ahead: {reason}", self.name());
                false
            }
        }
    }

    fn not_ahead(&self) {
        self.0.warm.wanted.store(0, Relaxed);
        let name = self.name();
        tracing::warn!("instances of {name} are not made ahead: it calls WASI before there is a request");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::sandbox::{Limits, Sandbox, SandboxOptions};

    use super::*;

    #[test]
    fn they_go_with_their_handler() {
        let limits = Limits { warm: 3, max_requests: 1, ..Limits::default() };
        let sandbox = Sandbox::new(SandboxOptions { limits, ..SandboxOptions::default() }).unwrap();
        let handler = sandbox.echo().unwrap();
        handler.keep_warm();
        assert_eq!(handler.warm_instances(), 3);
        assert!(handler.0.warm.take().is_some());
        let inner = Arc::downgrade(&handler.0);
        drop(handler);
        let deadline = Instant::now() + Duration::from_secs(20);
        while inner.strong_count() > 0 {
            assert!(Instant::now() < deadline, "its thread keeps it alive");
            thread::yield_now();
        }
    }
}
