//! `threading`: a thread for each request, as `ThreadingMixIn` does it.
//!
//! A thread that has served waits a while for another request, because a new thread is expensive: its first
//! call into WebAssembly maps a signal stack and its end unmaps it, under the lock of the address space that
//! every instance needs too. There are as many threads as open requests, and no bound but theirs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::Backoff;

use crate::job::Job;

/// How long a thread without a request lives on.
const IDLE_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Threading {
    /// The one that waits last is the first to serve: what it needs is still at hand in its processor.
    idle: Arc<Mutex<Vec<Arc<Idle>>>>,
    last_number: AtomicU64,
}

/// A thread that waits for its next request. Once it is not among the idle ones it has one, or will at once.
#[derive(Debug)]
struct Idle {
    next: Mutex<Option<Job>>,
    has_next: AtomicBool,
    unparker: Unparker,
}

impl Threading {
    pub(super) fn process_request(&self, job: Job) {
        let idle = lock(&self.idle).pop();
        match idle {
            Some(idle) => idle.give(Some(job)),
            None => self.spawn(job),
        }
    }

    fn spawn(&self, job: Job) {
        let all = self.idle.clone();
        let name = format!("threading-{}", self.last_number.fetch_add(1, Relaxed) + 1);
        let parker = Parker::new();
        // Kept aside, since a thread that cannot be spawned takes its closure with it.
        let (next, has_next) = (Mutex::new(Some(job)), AtomicBool::new(true));
        let idle = Arc::new(Idle { next, has_next, unparker: parker.unparker().clone() });
        let this = idle.clone();
        let serve = move || {
            while let Some(job) = this.next(&parker, &all) {
                job.run();
                lock(&all).push(this.clone());
            }
        };
        if let Err(error) = thread::Builder::new().name(name).spawn(serve)
            && let Some(job) = lock(&idle.next).take()
        {
            job.refuse(&format!("no thread for it: {error}"));
        }
    }
}

/// Those that wait end; those that serve go on, and end a while after.
impl Drop for Threading {
    fn drop(&mut self) {
        lock(&self.idle).drain(..).for_each(|idle| idle.give(None));
    }
}

impl Idle {
    fn give(&self, job: Option<Job>) {
        *lock(&self.next) = job;
        self.has_next.store(true, Release);
        self.unparker.unpark();
    }

    /// The request that this thread is given; `None` if that takes too long, or there will be none.
    fn next(self: &Arc<Self>, parker: &Parker, all: &Mutex<Vec<Arc<Self>>>) -> Option<Job> {
        let (deadline, backoff) = (Instant::now() + IDLE_TIME, Backoff::new());
        loop {
            if self.has_next.swap(false, Acquire) {
                return lock(&self.next).take();
            }
            // Under load the next one comes sooner than a sleep takes.
            if !backoff.is_completed() {
                backoff.snooze();
                continue;
            }
            parker.park_deadline(deadline);
            if Instant::now() >= deadline {
                let mut all = lock(all);
                if let Some(place) = all.iter().position(|idle| Arc::ptr_eq(idle, self)) {
                    all.remove(place);
                    return None;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
