//! Changes of a slot's versions: what is counted, logged and told of one that was made, or that came to nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Slot, Swapped, Version, VersionState};
use crate::error::SwapError;
use crate::events::{EventKind, emit};

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

impl Slot {
    /// A change was made: `serving` gets requests, and `concerned`, which may be the same, now stands so.
    pub(super) fn made(
        &self,
        change: Change,
        serving: &Version,
        concerned: &Version,
        stands: VersionState,
    ) -> Swapped {
        self.0.swaps.changes[change as usize].fetch_add(1, Relaxed);
        let (generation, digest) = (serving.info.generation, serving.handler.digest().to_owned());
        let what = match (change, &stands) {
            (_, VersionState::Canary(share)) => format!("a canary gets {share} of new requests"),
            (Change::Abort, _) => "the canary was aborted".to_owned(),
            _ => "swapped".to_owned(),
        };
        tracing::info!(slot = self.name(), generation, handler = serving.handler.name(), "{what}: {digest}");
        emit(|| {
            let slot = self.name().to_owned();
            let (concerned, before) = (concerned.info.generation, concerned.handler.digest().to_owned());
            match (change, stands) {
                (_, VersionState::RolledBack(reason)) => EventKind::RolledBack {
                    slot,
                    generation: concerned,
                    digest: before,
                    serving: generation,
                    reason,
                },
                (_, VersionState::Canary(share)) => {
                    EventKind::Canary { slot, generation, digest: digest.clone(), share: share.to_string() }
                }
                (Change::Abort, _) => {
                    EventKind::Aborted { slot, generation: concerned, digest: before, serving: generation }
                }
                (Change::Promotion, _) => EventKind::Promoted { slot, generation, digest: digest.clone() },
                _ => EventKind::Swapped { slot, generation, digest: digest.clone() },
            }
        });
        Swapped::Published { generation, digest }
    }

    /// Counts a change that came to nothing.
    pub(super) fn failed<T>(&self, changed: Result<T, SwapError>) -> Result<T, SwapError> {
        changed.inspect_err(|error| {
            self.0.swaps.failures[error.number()].fetch_add(1, Relaxed);
        })
    }
}

impl SwapCounts {
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Change::NAMES.into_iter().zip(self.changes.iter().map(|count| count.load(Relaxed)))
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SwapError::NAMES.into_iter().zip(self.failures.iter().map(|count| count.load(Relaxed)))
    }
}
