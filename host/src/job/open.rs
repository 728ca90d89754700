//! The open requests of a server, and how they are cut off.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::table::{Entered, Table};
use crate::error::Limit;
use crate::request::Request;
use crate::sandbox::Watch;
use crate::taken::Volume;

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
    /// `None` where it is a connection whose requests have their own.
    generation: Option<u64>,
}

impl Open {
    /// Another version goes on with it.
    pub(super) fn serve_by(&mut self, generation: Option<u64>) {
        self.generation = generation;
    }
}

impl OpenRequests {
    pub(crate) fn new(are_served_here: bool) -> Self {
        Self { table: Table::new(), are_served_here }
    }

    pub(super) fn are_served_here(&self) -> bool {
        self.are_served_here
    }

    /// One more, under its number, until what this returns is dropped. `request` is its connection, if that is its alone, and
    /// `generation` that of the version that serves it.
    pub(super) fn enter(
        &self,
        id: u64,
        request: Weak<Request>,
        watch: &Arc<Watch>,
        generation: Option<u64>,
    ) -> Entered<Open> {
        Table::enter(&self.table, id, Open { request, watch: watch.clone(), generation })
    }

    /// The bytes that have passed by their connections since this was last called.
    pub(crate) fn volumes(&self) -> Vec<Volume> {
        let open = self.table.select(|_| true);
        open.iter().filter_map(|open| open.request.upgrade()).map(|request| request.take_volume()).collect()
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
        let is_due = |open: &Open| generation.is_none_or(|generation| open.generation == Some(generation));
        for Open { request, watch, .. } in self.table.select(is_due) {
            count += usize::from(watch.cut(reason));
            if let Some(request) = request.upgrade().filter(|_| self.are_served_here) {
                request.shut_down();
            }
        }
        count
    }
}
