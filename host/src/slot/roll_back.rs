//! A version that fails too often is taken back by the slot itself, and refused from then on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::swaps::Change;
use super::{Slot, Version, VersionHold, VersionState};
use crate::error::{RequestError, SwapError};
use crate::sandbox::Handler;
use crate::taken::Taken;

/// How many refused components a slot remembers.
const REMEMBERED: usize = 64;

/// Components that were rolled back by themselves, and why; the newest last.
#[derive(Debug, Default)]
pub(super) struct Refusals(VecDeque<(String, String)>);

impl Refusals {
    pub(super) fn check(&self, handler: &Handler) -> Result<(), SwapError> {
        let digest = handler.digest();
        match self.0.iter().find(|(refused, _)| refused == digest) {
            Some((_, reason)) => {
                Err(SwapError::Refused { digest: digest.to_owned(), reason: reason.clone() })
            }
            None => Ok(()),
        }
    }

    pub(super) fn add(&mut self, digest: String, reason: String) {
        self.remove(&digest);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((digest, reason));
    }

    pub(super) fn all(&self) -> Vec<(String, String)> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn remove(&mut self, digest: &str) {
        self.0.retain(|(refused, _)| refused != digest);
    }
}

impl Slot {
    /// The digests that were rolled back by themselves, and why; the newest last. No swap brings them back unless it
    /// is forced.
    pub fn refused(&self) -> Vec<(String, String)> {
        self.state().refusals.all()
    }

    /// Refuses a digest as if it had been rolled back for this reason.
    pub fn refuse(&self, digest: impl Into<String>, reason: impl Into<String>) {
        self.state().refusals.add(digest.into(), reason.into());
    }

    /// Counts how a request went, and rolls its version back if too many fail.
    pub(crate) fn count(
        &self,
        held: &VersionHold,
        served: &Result<(), RequestError>,
        latency: Duration,
        taken: &Taken,
    ) {
        held.count(served, latency, taken);
        if served.is_ok() {
            return;
        }
        let Some(policy) = self.0.options.load().rollback_on else { return };
        let record = &held.version.record;
        if record.published.elapsed() > policy.window {
            return;
        }
        let (failed, ended) = {
            let counts = record.counts();
            (counts.failed, counts.ended)
        };
        if policy.is_passed(failed, ended) && record.stop_observing() {
            let reason =
                format!("{failed} of its first {ended} requests failed, and {policy} is the most allowed");
            self.roll_back_failing(held.version.clone(), reason);
        }
    }

    /// On a thread of its own, since this one serves.
    fn roll_back_failing(&self, failing: Arc<Version>, reason: String) {
        let slot = self.clone();
        let roll_back = move || slot.roll_back_now(&failing, reason);
        let spawned = std::thread::Builder::new().name("rollback".to_owned()).spawn(roll_back);
        if let Err(error) = spawned {
            tracing::error!(slot = self.name(), "cannot roll back: no thread for it: {error}");
        }
    }

    fn roll_back_now(&self, failing: &Arc<Version>, reason: String) {
        let mut publisher = self.publisher();
        let published = self.0.published.load_full();
        let serves = |version: &Arc<Version>| Arc::ptr_eq(version, failing);
        let is_canary = published.canary.as_ref().is_some_and(|canary| serves(&canary.version));
        let digest = failing.handler.digest();
        // Before it is done: whoever sees that it is done sees this, too.
        let refuse = || self.state().refusals.add(digest.to_owned(), reason.clone());
        let done = match publisher.previous.clone() {
            _ if is_canary => {
                refuse();
                let outcome = VersionState::RolledBack(reason.clone());
                self.abort_canary(&mut publisher, Change::AutomaticRollback, outcome)
            }
            Some(previous) if serves(&published.stable) => {
                refuse();
                self.put_back(&mut publisher, previous, Change::AutomaticRollback, reason.clone())
            }
            // It has been replaced since.
            _ => return,
        };
        match self.failed(done) {
            Ok(_) => {
                if !is_canary {
                    // To put it back takes more than another rollback.
                    publisher.previous = None;
                }
                let generation = failing.info.generation;
                tracing::warn!(slot = self.name(), generation, "rolled back {digest}: {reason}");
            }
            Err(error) => {
                self.state().refusals.remove(digest);
                tracing::error!(slot = self.name(), "cannot roll back ({reason}): {error}");
            }
        }
    }
}
