//! The open requests of a server, and how they are cut off.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::table::{Entered, Table};
use crate::error::Limit;
use crate::request::Request;
use crate::sandbox::Watch;
use crate::slot::Version;

#[derive(Debug)]
pub(crate) struct OpenRequests {
    table: Arc<Table<Open>>,
    /// Whether they are served in this process: then a cut ends their waits for their clients. Where another serves
    /// them it is told, and their connections are left alone, lest it take the end of one for the client's.
    are_served_here: bool,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Open {
    request: Weak<Request>,
    watch: Arc<Watch>,
    generation: u64,
}

impl OpenRequests {
    pub(crate) fn new(are_served_here: bool) -> Self {
        Self { table: Table::new(), are_served_here }
    }

    pub(super) fn enter(
        &self,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
        version: &Version,
    ) -> Entered<Open> {
        let generation = version.info.generation;
        let open = Open { request: Arc::downgrade(request), watch: watch.clone(), generation };
        Table::enter(&self.table, request.id(), open)
    }

    pub(crate) fn count(&self) -> usize {
        self.table.count()
    }

    /// Waits until none is open or the deadline passes; whether none is.
    pub(crate) fn wait_until_none(&self, deadline: Option<Instant>) -> bool {
        self.table.wait_until_none(deadline)
    }

    /// Cuts off the open requests of one generation, or all; how many were not cut off yet.
    pub(crate) fn cut(&self, reason: Limit, generation: Option<u64>) -> usize {
        let mut count = 0;
        let is_due = |open: &Open| generation.is_none_or(|generation| open.generation == generation);
        for Open { request, watch, .. } in self.table.select(is_due) {
            count += usize::from(watch.cut(reason));
            if let Some(request) = request.upgrade().filter(|_| self.are_served_here) {
                request.shut_down();
            }
        }
        count
    }
}
