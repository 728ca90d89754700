//! What is counted of a server, whichever version serves.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::error::{Phase, RequestError, excerpt_of};
use crate::histogram::SharedHistogram;
use crate::taken::{AnswerCount, Taken, VolumeCount};

/// How many failures are remembered.
pub(crate) const FAILURES: usize = 50;

/// The most that is remembered of what one failed of, in bytes.
const REASON_MAX: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct ServerCounts {
    pub(crate) volume: VolumeCount,
    pub(crate) answers: AnswerCount,
    /// How long requests that were accepted waited for room.
    pub(crate) room_wait: SharedHistogram,
    /// How long those with room waited for a thread, a task or a process that begins with them.
    pub(crate) start_wait: SharedHistogram,
    /// How long TLS handshakes took.
    pub(crate) handshakes: SharedHistogram,
    failures: Mutex<VecDeque<Failure>>,
}

/// One request that failed by its handler's fault or the host's.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) at: SystemTime,
    pub(crate) request: u64,
    pub(crate) generation: u64,
    pub(crate) cause: &'static str,
    pub(crate) phase: String,
    pub(crate) reason: String,
}

impl ServerCounts {
    /// Counts what is not the version's.
    pub(super) fn take_in(&self, taken: &Taken) {
        self.volume.add(taken.volume);
        self.answers.add(&taken.answers);
    }

    /// Counts the TLS handshake of a connection, if it had one.
    pub(super) fn count_handshake(&self, taken: &Taken) {
        let time = taken.phase(Phase::Handshake);
        if !time.is_zero() {
            self.handshakes.record(time);
        }
    }

    /// Remembers a failure, and forgets the oldest.
    pub(super) fn remember(&self, request: u64, generation: u64, error: &RequestError) {
        let RequestError { phase, cause } = error;
        let failure = Failure {
            at: SystemTime::now(),
            request,
            generation,
            cause: cause.name(),
            phase: phase.to_string(),
            reason: excerpt_of(&cause.to_string(), REASON_MAX),
        };
        let mut failures = self.failures();
        if failures.len() == FAILURES {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    /// The last ones, the oldest first.
    pub(crate) fn last_failures(&self) -> Vec<Failure> {
        self.failures().iter().cloned().collect()
    }

    fn failures(&self) -> MutexGuard<'_, VecDeque<Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
