//! Which version of a handler serves. A request takes the version once, at its start, and keeps it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::sandbox::Handler;

/// One version of a slot's handler.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) handler: Handler,
    /// Counts the versions of the slot, from 1.
    pub(crate) generation: u64,
}

/// Holds the version that new requests get. Only the slot publishes one.
#[derive(Debug)]
pub(crate) struct Slot(ArcSwap<Version>);

impl Slot {
    pub(crate) fn new(handler: Handler) -> Self {
        Self(ArcSwap::from_pointee(Version { handler, generation: 1 }))
    }

    pub(crate) fn current(&self) -> Arc<Version> {
        self.0.load_full()
    }
}
