//! The open requests of a server: to wait for their end, and to cut them off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::Limit;
use crate::request::Request;
use crate::sandbox::Watch;

/// The open requests by their ids, with what cuts each off.
type Table = HashMap<u64, (Arc<Request>, Arc<Watch>)>;

#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    table: Mutex<Table>,
    /// How many wait for `none_left`; to notify is a system call even if nobody does.
    waiting: AtomicUsize,
    none_left: Condvar,
}

/// Keeps a request among the open ones.
#[derive(Debug)]
pub(super) struct OpenGuard {
    open: Arc<OpenRequests>,
    id: u64,
}

impl OpenRequests {
    pub(super) fn enter(self: &Arc<Self>, request: &Arc<Request>, watch: &Arc<Watch>) -> OpenGuard {
        self.table().insert(request.id(), (request.clone(), watch.clone()));
        OpenGuard { open: self.clone(), id: request.id() }
    }

    pub(super) fn count(&self) -> usize {
        self.table().len()
    }

    /// Waits until none is open or the deadline passes; whether none is.
    pub(super) fn wait_until_none(&self, deadline: Option<Instant>) -> bool {
        let mut table = self.table();
        let _waiting = Waiting::begin(&self.waiting);
        while !table.is_empty() {
            table = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.none_left.wait(table).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    self.none_left.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Cuts off those of the open requests that are `due`, and says how many were not yet. Where another process serves them
    /// it is killed for it, and their connections are left alone, lest it take the end of one for the client's.
    pub(super) fn cut(&self, reason: Limit, is_served_here: bool, due: impl Fn(&Request) -> bool) -> usize {
        let open: Vec<_> = self.table().values().filter(|(request, _)| due(request)).cloned().collect();
        let mut count = 0;
        for (request, watch) in &open {
            count += usize::from(watch.cut(reason));
            if is_served_here {
                request.cut();
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
        table.remove(&self.id);
        if table.is_empty() && self.open.waiting.load(SeqCst) > 0 {
            self.open.none_left.notify_all();
        }
    }
}

/// One thread waits; not any more when dropped. Begins under the table's lock, so that no end is missed.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
