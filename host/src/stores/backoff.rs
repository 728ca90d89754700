//! When to try again to reach a server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::operation::Failure;

/// How long nobody tries again after a failure, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What is known of the last attempts.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<Option<Last>>);

#[derive(Debug)]
struct Last {
    reason: String,
    until: Instant,
    pause: Duration,
}

impl Backoff {
    /// Whether it is too early to try again, and why the last attempt failed.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &*self.last() {
            Some(last) if Instant::now() < last.until => Err(Failure::Unreachable(last.reason.clone())),
            _ => Ok(()),
        }
    }

    /// An attempt has failed.
    pub(super) fn failed(&self, reason: String) -> Failure {
        let mut last = self.last();
        let pause = last.as_ref().map_or(PAUSE, |last| (last.pause * 2).min(PAUSE_MAX));
        *last = Some(Last { reason: reason.clone(), until: Instant::now() + pause, pause });
        Failure::Unreachable(reason)
    }

    /// An attempt has succeeded.
    pub(super) fn succeeded(&self) {
        *self.last() = None;
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
