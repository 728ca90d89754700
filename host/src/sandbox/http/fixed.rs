//! A connection that is served without a slot: all of its requests by the same version.

use std::future::ready;
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Begun, Exchanges, Handover, Pending, Room};
use crate::error::RequestError;
use crate::request::Waits;
use crate::sandbox::watch::Watch;
use crate::sandbox::{Drain, Handler, VersionInfo};
use crate::server_info::ServerInfo;
use crate::taken::{AnswerCount, REFUSED_MAX, Taken};
use crate::traces::{Came, Recorded};

/// `E` is told how each request went, and how long it took.
pub(crate) struct Fixed<E> {
    pub(crate) handler: Handler,
    pub(crate) version: VersionInfo,
    /// No request gets more, if that is less than the limit.
    pub(crate) time: Option<Duration>,
    /// Begins when the connection is to end.
    pub(crate) closing: Option<Arc<Drain>>,
    pub(crate) handover: Option<Arc<Handover>>,
    /// Room for one request more.
    pub(crate) more_room: Box<dyn Fn() -> Option<Room> + Send + Sync>,
    /// Whose requests they are.
    pub(crate) server: Arc<ServerInfo>,
    pub(crate) answers: AnswerCount,
    pub(crate) refused: Mutex<Vec<Recorded>>,
    pub(crate) ended: E,
}

impl<E> Fixed<E> {
    /// With what has come together since this was last called.
    pub(crate) fn with_the_rest(&self, taken: Taken) -> Taken {
        let refused = take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        Taken { answers: self.answers.take(), refused, ..taken }
    }
}

impl<E: Fn(Result<(), RequestError>, Duration, Taken) + Send + Sync> Exchanges for Fixed<E> {
    fn begin(&self, _: u64, came: Option<Came>) -> Option<Begun> {
        let limits = self.handler.sandbox().limits();
        let watch = match self.time {
            Some(time) => Watch::at_most(time, limits, Waits::Task),
            None => Watch::new(limits, Waits::Task),
        }
        .measuring(self.server.is_measured)
        .tracing(self.server.begin_trace(came));
        let (handler, version) = (self.handler.clone(), self.version.clone());
        Some(Begun { handler, version, watch: Arc::new(watch), kept: Box::new(Instant::now()) })
    }

    fn more_room(&self) -> Option<Room> {
        (self.more_room)()
    }

    fn end(&self, _: u64, begun: Begun, served: Result<(), RequestError>) -> Pending<'_> {
        let taken = self.with_the_rest(begun.watch.taken());
        let begun = begun.kept.downcast::<Instant>().expect("`begin` has made it");
        (self.ended)(served, begun.elapsed(), taken);
        Box::pin(ready(()))
    }

    fn answered(&self, status: http::StatusCode) {
        self.answers.count(status);
    }

    fn refused(&self, trace: Recorded) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED_MAX {
            refused.push(trace);
        }
    }

    fn closing(&self) -> Pending<'static> {
        let closing = self.closing.clone();
        Box::pin(async move { Drain::begun(closing.as_deref()).await })
    }

    fn is_crowded(&self) -> bool {
        false
    }

    fn handover(&self) -> Option<Arc<Handover>> {
        self.handover.clone()
    }
}
