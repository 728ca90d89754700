//! `threading`: a thread for each request, as `ThreadingMixIn` does it.
//!
//! A thread that has served waits a while for another request, because a new thread is expensive: its first
//! call into WebAssembly maps a signal stack and its end unmaps it, under the lock of the address space that
//! every instance needs too. There are as many threads as open requests, and no bound but theirs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use crate::job::Job;

/// How long a thread without a request lives on.
const IDLE_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Threading {
    /// Without room for a message: sending succeeds only if a thread waits at the other end.
    idle: Sender<Job>,
    next: Receiver<Job>,
    last_number: AtomicU64,
}

impl Threading {
    pub(super) fn new() -> Self {
        let (idle, next) = bounded(0);
        Self { idle, next, last_number: AtomicU64::new(0) }
    }

    pub(super) fn process_request(&self, job: Job) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.idle.try_send(job) {
            self.spawn(job);
        }
    }

    fn spawn(&self, job: Job) {
        let next = self.next.clone();
        let name = format!("threading-{}", self.last_number.fetch_add(1, Relaxed) + 1);
        // Kept aside, since a thread that cannot be spawned takes its closure with it.
        let (first, handed_over) = bounded(1);
        let serve = move || {
            let first = handed_over.recv().ok();
            let waiting = std::iter::from_fn(|| next.recv_timeout(IDLE_TIME).ok());
            first.into_iter().chain(waiting).for_each(Job::run);
        };
        match thread::Builder::new().name(name).spawn(serve) {
            Ok(_) => drop(first.send(job)),
            Err(error) => job.refuse(&format!("no thread for it: {error}")),
        }
    }
}
