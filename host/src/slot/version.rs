//! One version of a slot's handler, and a request's hold on it.

use std::any::Any;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::Record;
use crate::error::RequestError;
use crate::events::{EventKind, emit};
use crate::sandbox::{Drain, Handler, VersionInfo};
use crate::taken::Taken;

/// A handler as a slot serves it. It lives, with its code and its memory, until the slot has no use for it and
/// the last request that took it has ended.
#[derive(Debug)]
pub(crate) struct Version {
    /// The slot's name.
    slot: String,
    pub(crate) handler: Handler,
    pub(crate) info: VersionInfo,
    pub(super) record: Arc<Record>,
    /// What servers have made ready to serve it, each under its own id.
    kept: Mutex<Vec<(u64, Kept)>>,
}

/// The slot does not know what it is.
type Kept = Arc<dyn Any + Send + Sync>;

impl Version {
    /// `tell` is whether its handlers learn that it is replaced, which takes a descriptor.
    pub(super) fn new(slot: &str, handler: Handler, generation: u64, tell: bool) -> io::Result<Self> {
        // A process that serves a connection of HTTP learns by it that another version is to serve the next request.
        let drain = (tell || handler.speaks_http()).then(Drain::new).transpose()?.map(Arc::new);
        let record = Arc::new(Record::new(&handler, generation));
        Ok(Self {
            slot: slot.to_owned(),
            handler,
            info: VersionInfo { generation, drain },
            record,
            kept: Mutex::default(),
        })
    }

    /// Keeps what a server has made ready for it, until it goes or the server does without. What was kept under
    /// the id before is let go.
    pub(crate) fn keep(&self, server: u64, made: Kept) {
        let before = self.let_go(server);
        self.kept().push((server, made));
        drop(before);
    }

    /// What is kept under this id.
    pub(crate) fn kept_for<T: Any + Send + Sync>(&self, server: u64) -> Option<Arc<T>> {
        let kept = self.kept();
        let (_, made) = kept.iter().find(|(id, _)| *id == server)?;
        made.clone().downcast().ok()
    }

    /// Keeps it no longer; it, for whoever ends it.
    pub(crate) fn let_go(&self, server: u64) -> Option<Kept> {
        let mut kept = self.kept();
        let index = kept.iter().position(|(id, _)| *id == server)?;
        Some(kept.swap_remove(index).1)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(u64, Kept)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one request as open until what this returns is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> VersionHold {
        self.record.open_one();
        VersionHold { version: self.clone(), since: Instant::now() }
    }
}

/// Its last request has ended.
impl Drop for Version {
    fn drop(&mut self) {
        // One that serves goes with its slot.
        if !self.record.gets_requests() {
            emit(|| EventKind::Drained {
                slot: self.slot.clone(),
                generation: self.info.generation,
                digest: self.handler.digest().to_owned(),
            });
        }
    }
}

/// A request's hold on its version.
#[derive(Debug)]
pub(crate) struct VersionHold {
    pub(crate) version: Arc<Version>,
    since: Instant,
}

impl VersionHold {
    /// How long there has been a hold.
    pub(crate) fn latency(&self) -> Duration {
        self.since.elapsed()
    }

    /// Counts how a request went, and how long it took.
    pub(super) fn count(&self, served: &Result<(), RequestError>, latency: Duration, taken: &Taken) {
        self.version.record.counts().count(served, latency, taken);
    }
}

impl Drop for VersionHold {
    fn drop(&mut self) {
        self.version.record.close_one();
    }
}
