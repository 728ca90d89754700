//! How a version is put in place: made ready beside what serves, and then stored as what new requests get.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::retire::Reaper;
use super::swaps::Change;
use super::{Share, Slot, SlotOptions, State, Swapped, Version, VersionState};
use crate::error::SwapError;
use crate::sandbox::Handler;

/// What new requests get.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) stable: Arc<Version>,
    pub(super) canary: Option<Canary>,
}

#[derive(Debug)]
pub(super) struct Canary {
    pub(super) version: Arc<Version>,
    share: Share,
    /// Requests since it was published.
    counter: AtomicU64,
}

impl Published {
    /// The version for a new request.
    pub(super) fn take(&self) -> Arc<Version> {
        match &self.canary {
            Some(canary) if canary.share.takes_next(&canary.counter) => canary.version.clone(),
            _ => self.stable.clone(),
        }
    }
}

impl State {
    /// Notes a version that is about to be published, and where it stands. Whoever looks at the versions meanwhile
    /// waits, and finds that the others stand elsewhere.
    fn note(&mut self, version: &Version, stands: VersionState) {
        version.record.set_state(stands);
        // One on trial is known already.
        if version.info.generation > self.last_generation {
            self.last_generation = version.info.generation;
            self.records.add(version.record.clone());
        }
    }
}

/// What none but the one who publishes needs. It may be locked for as long as a version takes to be made ready.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// The version before this one, still compiled.
    pub(super) previous: Option<Handler>,
    pub(super) reaper: Option<Reaper>,
}

impl Slot {
    /// Waits for its turn to publish.
    pub(super) fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.0.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version of this handler, ready to be served by all servers of the slot. `_` is the right to publish,
    /// without which two could get one generation.
    pub(super) fn prepare(
        &self,
        _: &mut Publisher,
        handler: Handler,
        options: &SlotOptions,
    ) -> Result<Arc<Version>, SwapError> {
        let generation = self.last_generation() + 1;
        let version = Version::new(self.name(), handler, generation, options.drain_signal)
            .map_err(SwapError::Prepare)?;
        let version = Arc::new(version);
        for server in self.0.servers() {
            server.prepare(&version).map_err(SwapError::Prepare)?;
        }
        version.handler.keep_idle(true);
        Ok(version)
    }

    /// Puts the version before in place again.
    pub(super) fn put_back(
        &self,
        publisher: &mut Publisher,
        previous: Handler,
        change: Change,
        reason: String,
    ) -> Result<Swapped, SwapError> {
        let version = self.prepare(publisher, previous, &self.0.options.load())?;
        version.record.stop_observing();
        Ok(self.put(publisher, version, change, VersionState::RolledBack(reason)))
    }

    /// Publishes a version for all new requests; the one before, and a canary, get where they now stand.
    pub(super) fn put(
        &self,
        publisher: &mut Publisher,
        stable: Arc<Version>,
        change: Change,
        old: VersionState,
    ) -> Swapped {
        let mut state = self.state();
        state.note(&stable, VersionState::Serving);
        let published = self.0.published.swap(Arc::new(Published { stable: stable.clone(), canary: None }));
        self.retire(publisher, &published.stable, old.clone());
        if let Some(canary) =
            published.canary.as_ref().filter(|canary| !Arc::ptr_eq(&canary.version, &stable))
        {
            self.retire(publisher, &canary.version, VersionState::Aborted);
        }
        drop(state);
        publisher.previous = Some(published.stable.handler.clone());
        self.made(change, &stable, &published.stable, old)
    }

    /// Publishes a version for a share of new requests; a canary before it gives way.
    pub(super) fn put_canary(
        &self,
        publisher: &mut Publisher,
        version: Arc<Version>,
        share: Share,
    ) -> Swapped {
        let mut state = self.state();
        state.note(&version, VersionState::Canary(share));
        let canary = Canary { version: version.clone(), share, counter: AtomicU64::new(0) };
        let stable = self.stable();
        let published = self.0.published.swap(Arc::new(Published { stable, canary: Some(canary) }));
        if let Some(replaced) = &published.canary {
            self.retire(publisher, &replaced.version, VersionState::Aborted);
        }
        drop(state);
        self.made(Change::Canary, &version, &version, VersionState::Canary(share))
    }

    pub(super) fn abort_canary(
        &self,
        publisher: &mut Publisher,
        change: Change,
        outcome: VersionState,
    ) -> Result<Swapped, SwapError> {
        let published = self.0.published.load_full();
        let canary = published.canary.as_ref().ok_or(SwapError::NoCanary)?;
        let stable = published.stable.clone();
        self.0.published.store(Arc::new(Published { stable: stable.clone(), canary: None }));
        self.retire(publisher, &canary.version, outcome.clone());
        Ok(self.made(change, &stable, &canary.version, outcome))
    }
}
