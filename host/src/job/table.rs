//! What is there now, by number: to look at all of it, and to wait until nothing is left.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use crate::sync::{Arc, AtomicUsize, Condvar, Mutex, MutexGuard};

#[derive(Debug)]
pub(crate) struct Table<E> {
    entries: Mutex<HashMap<u64, E>>,
    /// How many wait for `none_left`; to notify is a system call even if nobody does.
    waiting: AtomicUsize,
    none_left: Condvar,
}

/// Keeps an entry in a table.
#[derive(Debug)]
pub(crate) struct Entered<E> {
    table: Arc<Table<E>>,
    id: u64,
}

impl<E: Clone> Table<E> {
    pub(crate) fn new() -> Arc<Self> {
        let (entries, waiting) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
        Arc::new(Self { entries, waiting, none_left: Condvar::new() })
    }

    /// Enters what stays there until what this returns is dropped.
    pub(crate) fn enter(table: &Arc<Self>, id: u64, entry: E) -> Entered<E> {
        table.lock().insert(id, entry);
        Entered { table: table.clone(), id }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The entries that are there now and are asked for.
    pub(crate) fn select(&self, is_wanted: impl Fn(&E) -> bool) -> Vec<E> {
        self.lock().values().filter(|entry| is_wanted(entry)).cloned().collect()
    }

    /// Waits until none is there or the deadline passes; whether none is.
    pub(crate) fn wait_until_none(&self, deadline: Option<Instant>) -> bool {
        let mut entries = self.lock();
        // Counted under the lock, so that no end is missed.
        self.waiting.fetch_add(1, SeqCst);
        while !entries.is_empty() {
            entries = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.none_left.wait(entries).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    self.none_left.wait_timeout(entries, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        self.waiting.fetch_sub(1, SeqCst);
        entries.is_empty()
    }
}

impl<E> Entered<E> {
    /// Changes what was entered.
    pub(crate) fn change(&self, change: impl FnOnce(&mut E)) {
        if let Some(entry) = self.table.lock().get_mut(&self.id) {
            change(entry);
        }
    }
}

impl<E> Table<E> {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, E>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Drop for Entered<E> {
    fn drop(&mut self) {
        let mut entries = self.table.lock();
        let entry = entries.remove(&self.id);
        if entries.is_empty() && self.table.waiting.load(SeqCst) > 0 {
            self.table.none_left.notify_all();
        }
        // What it holds is let go of outside the lock.
        drop(entries);
        drop(entry);
    }
}
