//! A swap in two steps: a version is made ready, all that could fail done, and then published, which cannot fail. So
//! several slots change together, or none.

use std::sync::{Arc, MutexGuard, PoisonError, atomic::Ordering::SeqCst};

use super::publish::Publisher;
use super::swaps::Change;
use super::{Share, Slot, SlotOptions, Source, SwapOptions, Swapped, Version, VersionState};
use crate::error::SwapError;
use crate::events::{EventKind, emit};

/// A version that is ready to be published. Until then no other is published in its slot, and no server begins to serve that.
/// Dropped, it leaves the slot as it was.
#[must_use]
pub struct Ready<'a> {
    slot: &'a Slot,
    next: Next,
    options: Arc<SlotOptions>,
    publisher: MutexGuard<'a, Publisher>,
    _swapping: MutexGuard<'a, ()>,
}

enum Next {
    Unchanged { generation: u64, digest: String },
    Stable(Arc<Version>),
    Canary(Arc<Version>, Share),
}

impl Slot {
    /// Makes another version ready, as [`swap`](Self::swap) does before it publishes one: loads it, probes it, and has each
    /// server of the slot prepare for it. From its publication on the slot swaps by these options, but keeps its name.
    pub fn ready(
        &self,
        source: impl Into<Source>,
        how: SwapOptions,
        options: SlotOptions,
    ) -> Result<Ready<'_>, SwapError> {
        self.make_ready(source.into(), how, Arc::new(options))
    }

    pub(super) fn make_ready(
        &self,
        source: Source,
        how: SwapOptions,
        options: Arc<SlotOptions>,
    ) -> Result<Ready<'_>, SwapError> {
        self.failed(self.try_to_make_ready(source, how, options)).inspect_err(|error| {
            emit(|| EventKind::NotSwapped { slot: self.name().to_owned(), reason: error.to_string() });
        })
    }

    fn try_to_make_ready(
        &self,
        source: Source,
        how: SwapOptions,
        options: Arc<SlotOptions>,
    ) -> Result<Ready<'_>, SwapError> {
        let number = self.0.last_swap.fetch_add(1, SeqCst) + 1;
        let swapping = self.0.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.last_swap.load(SeqCst) != number {
            return Err(SwapError::Superseded);
        }
        let handler = self.load(source, how.digest)?;
        let is_new = self.serves_already(&handler).is_none();
        let check = || match how.force || !is_new {
            true => Ok(()),
            false => self.state().refusals.check(&handler),
        };
        check()?;
        if is_new {
            self.probe(&handler, options.probe.as_ref())?;
            self.probe(&handler, how.probe.as_ref())?;
        }
        let mut publisher = self.publisher();
        // It may have been rolled back meanwhile.
        check()?;
        let next = match (self.serves_already(&handler), how.canary) {
            (Some(generation), _) => Next::Unchanged { generation, digest: handler.digest().to_owned() },
            (None, None) => Next::Stable(self.prepare(&mut publisher, handler, &options)?),
            (None, Some(share)) => Next::Canary(self.prepare(&mut publisher, handler, &options)?, share),
        };
        Ok(Ready { slot: self, next, options, publisher, _swapping: swapping })
    }
}

impl Ready<'_> {
    /// Has new requests get it.
    pub fn publish(mut self) -> Swapped {
        let slot = self.slot;
        slot.0.options.store(self.options);
        let (swapped, digest) = match self.next {
            Next::Unchanged { generation, digest } => {
                tracing::info!(slot = slot.name(), generation, "not swapped: {digest} serves already");
                return Swapped::Unchanged { generation, digest };
            }
            Next::Stable(version) => {
                let digest = version.handler.digest().to_owned();
                (slot.put(&mut self.publisher, version, Change::Swap, VersionState::Replaced), digest)
            }
            Next::Canary(version, share) => {
                let digest = version.handler.digest().to_owned();
                (slot.put_canary(&mut self.publisher, version, share), digest)
            }
        };
        slot.state().refusals.remove(&digest);
        swapped
    }
}
