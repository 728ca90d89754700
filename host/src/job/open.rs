//! The open requests of a server: to wait for their end, and to cut them off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::error::Limit;
use crate::request::Request;
use crate::sandbox::Watch;
use crate::slot::Version;

/// The open requests by their ids.
type Table = HashMap<u64, Entry>;

#[derive(Debug)]
pub(crate) struct OpenRequests {
    table: Mutex<Table>,
    /// Whether they are served in this process: then a cut ends their waits for their clients. Where another serves
    /// them it is killed for it, and their connections are left alone, lest it take the end of one for the client's.
    are_served_here: bool,
    /// How many wait for `none_left`; to notify is a system call even if nobody does.
    waiting: AtomicUsize,
    none_left: Condvar,
}

/// Nothing that is dropped with it does anything: it may go under the lock.
#[derive(Clone, Debug)]
struct Entry {
    request: Weak<Request>,
    watch: Arc<Watch>,
    generation: u64,
}

/// Keeps a request among the open ones.
#[derive(Debug)]
pub(super) struct OpenGuard {
    open: Arc<OpenRequests>,
    id: u64,
}

impl OpenRequests {
    pub(crate) fn new(are_served_here: bool) -> Self {
        let (table, waiting, none_left) = Default::default();
        Self { table, are_served_here, waiting, none_left }
    }

    pub(super) fn enter(
        self: &Arc<Self>,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
        version: &Version,
    ) -> OpenGuard {
        let generation = version.info.generation;
        let entry = Entry { request: Arc::downgrade(request), watch: watch.clone(), generation };
        self.table().insert(request.id(), entry);
        OpenGuard { open: self.clone(), id: request.id() }
    }

    pub(crate) fn count(&self) -> usize {
        self.table().len()
    }

    /// Waits until none is open or the deadline passes; whether none is.
    pub(crate) fn wait_until_none(&self, deadline: Option<Instant>) -> bool {
        let mut table = self.table();
        // Counted under the lock, so that no end is missed.
        self.waiting.fetch_add(1, SeqCst);
        while !table.is_empty() {
            table = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.none_left.wait(table).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    self.none_left.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        self.waiting.fetch_sub(1, SeqCst);
        table.is_empty()
    }

    /// Cuts off the open requests of one generation, or all; how many were not cut off yet.
    pub(crate) fn cut(&self, reason: Limit, generation: Option<u64>) -> usize {
        let is_due = |entry: &&Entry| generation.is_none_or(|generation| entry.generation == generation);
        let due: Vec<_> = self.table().values().filter(is_due).cloned().collect();
        let mut count = 0;
        for Entry { request, watch, .. } in due {
            count += usize::from(watch.cut(reason));
            if let Some(request) = request.upgrade().filter(|_| self.are_served_here) {
                request.shut_down();
            }
        }
        count
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let mut table = self.open.table();
        let entry = table.remove(&self.id);
        if table.is_empty() && self.open.waiting.load(SeqCst) > 0 {
            self.open.none_left.notify_all();
        }
        drop(table);
        drop(entry);
    }
}
