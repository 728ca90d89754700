//! In the place of `host/src/sync.rs`.

use std::sync::atomic::Ordering;

use loom::sync::atomic::fence;
pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// `loom` takes `SeqCst` of an operation for `AcqRel`, which is less, but knows what a fence of it is.
fn sequentially<T>(operation: impl FnOnce() -> T) -> T {
    fence(Ordering::SeqCst);
    let done = operation();
    fence(Ordering::SeqCst);
    done
}

#[derive(Debug)]
pub struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub fn new(value: bool) -> Self {
        Self(loom::sync::atomic::AtomicBool::new(value))
    }

    pub fn load(&self, order: Ordering) -> bool {
        sequentially(|| self.0.load(order))
    }

    pub fn store(&self, value: bool, order: Ordering) {
        sequentially(|| self.0.store(value, order));
    }

    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        sequentially(|| self.0.swap(value, order))
    }
}

#[derive(Debug)]
pub struct AtomicUsize(loom::sync::atomic::AtomicUsize);

impl AtomicUsize {
    pub fn new(value: usize) -> Self {
        Self(loom::sync::atomic::AtomicUsize::new(value))
    }

    pub fn load(&self, order: Ordering) -> usize {
        sequentially(|| self.0.load(order))
    }

    #[allow(dead_code, reason = "no test changes a bound")]
    pub fn store(&self, value: usize, order: Ordering) {
        sequentially(|| self.0.store(value, order));
    }

    pub fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        sequentially(|| self.0.fetch_add(value, order))
    }

    pub fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
        sequentially(|| self.0.fetch_sub(value, order))
    }

    pub fn fetch_update(
        &self,
        set: Ordering,
        get: Ordering,
        update: impl FnMut(usize) -> Option<usize>,
    ) -> Result<usize, usize> {
        sequentially(|| self.0.fetch_update(set, get, update))
    }
}
