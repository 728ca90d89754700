//! How often handlers were compiled, and how long that took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::histogram::{Histogram, SharedHistogram};

#[derive(Debug, Default)]
pub(crate) struct CompileCounts {
    times: SharedHistogram,
    failures: AtomicU64,
    /// Those that were there compiled.
    from_cache: AtomicU64,
}

impl CompileCounts {
    pub(super) fn compiled<T, E>(&self, compiled: &Result<T, E>, time: Duration) {
        self.times.record(time);
        self.failures.fetch_add(u64::from(compiled.is_err()), Relaxed);
    }

    pub(super) fn found_in_cache(&self) {
        self.from_cache.fetch_add(1, Relaxed);
    }

    pub(crate) fn times(&self) -> Histogram {
        self.times.so_far()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    pub(crate) fn cached(&self) -> u64 {
        self.from_cache.load(Relaxed)
    }
}
