//! How often a slot's versions were changed, and why changes came to nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Swapped;
use crate::error::SwapError;

/// What changed which version gets requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Another version took the place of the one before.
    Swap,
    /// Another version got a share of requests.
    Canary,
    /// A canary got all requests.
    Promotion,
    /// A canary's share was taken back.
    Abort,
    /// The version before was put back, since somebody asked for it.
    Rollback,
    /// A version that failed too often was taken back.
    AutomaticRollback,
}

impl Change {
    /// Their names, in their order.
    pub(crate) const NAMES: [&str; 6] =
        ["swap", "canary", "promotion", "abort", "rollback", "automatic-rollback"];
}

impl SwapError {
    /// What [`number`](Self::number) stands for.
    pub(crate) const NAMES: [&str; 8] = [
        "handler",
        "probe",
        "superseded",
        "refused",
        "prepare",
        "nothing-before",
        "no-canary",
        "canary-on-trial",
    ];

    fn number(&self) -> usize {
        match self {
            Self::Handler(_) => 0,
            Self::Probe { .. } => 1,
            Self::Superseded => 2,
            Self::Refused { .. } => 3,
            Self::Prepare(_) => 4,
            Self::NothingBefore => 5,
            Self::NoCanary => 6,
            Self::CanaryOnTrial => 7,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct SwapCounts {
    changes: [AtomicU64; Change::NAMES.len()],
    failures: [AtomicU64; SwapError::NAMES.len()],
}

impl SwapCounts {
    /// Counts what came of a change that was tried.
    pub(super) fn count(&self, change: Change, swapped: &Result<Swapped, SwapError>) {
        match swapped {
            Ok(_) => self.changed(change),
            Err(error) => self.failed(error),
        }
    }

    pub(super) fn changed(&self, change: Change) {
        self.changes[change as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, error: &SwapError) {
        self.failures[error.number()].fetch_add(1, Relaxed);
    }

    pub(crate) fn changes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Change::NAMES.into_iter().zip(self.changes.iter().map(|count| count.load(Relaxed)))
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SwapError::NAMES.into_iter().zip(self.failures.iter().map(|count| count.load(Relaxed)))
    }
}
