//! A connection that brings requests of HTTP, served in this process: each request takes the slot's version when it begins,
//! and is counted, cut off and reported by itself.

use std::sync::{Arc, Weak};

use super::{Open, Service};
use crate::error::RequestError;
use crate::job::table::Entered;
use crate::request::{Request, Waits};
use crate::sandbox::{Begun, Exchanges, Pending, Room, Watch};
use crate::slot::VersionHold;
use crate::traces::{Came, Recorded};

/// What one connection has of its server.
pub(super) struct Exchanged {
    service: Arc<Service>,
    request: Arc<Request>,
}

/// What a request has of it, in the order in which it is let go of.
struct Kept {
    hold: VersionHold,
    _open: Entered<Open>,
}

impl Exchanged {
    pub(super) fn of(service: &Arc<Service>, request: &Arc<Request>) -> Self {
        Self { service: service.clone(), request: request.clone() }
    }
}

impl Exchanges for Exchanged {
    fn begin(&self, id: u64, came: Option<Came>) -> Option<Begun> {
        let hold = self.service.slot.take().enter();
        let (handler, version) = (hold.version.handler.clone(), hold.version.info.clone());
        if !handler.speaks_http() {
            return None;
        }
        let is_measured = self.service.info.is_measured;
        let trace = self.service.info.begin_trace(came);
        let watch = Watch::new(handler.sandbox().limits(), Waits::Task).measuring(is_measured).tracing(trace);
        let watch = Arc::new(watch);
        // It has not the connection to itself: what ends it is its watch alone.
        let open = self.service.exchanges.enter(id, Weak::new(), &watch, Some(version.generation));
        Some(Begun { handler, version, watch, kept: Box::new(Kept { hold, _open: open }) })
    }

    fn more_room(&self) -> Option<Room> {
        Some(Box::new(self.service.more_room()?))
    }

    fn end(&self, id: u64, begun: Begun, served: Result<(), RequestError>) -> Pending<'_> {
        Box::pin(async move {
            let kept = begun.kept.downcast::<Kept>().expect("`begin` has made it");
            let (latency, taken) = (kept.hold.latency(), begun.watch.taken());
            self.service.report(&self.request, id, &kept.hold, &served, latency, &taken, Waits::Task).await;
        })
    }

    fn answered(&self, status: http::StatusCode) {
        self.service.counts.answers.count(status);
    }

    fn refused(&self, trace: Recorded) {
        self.service.tell_refusal(&self.request, &trace);
    }

    fn closing(&self) -> Pending<'static> {
        Box::pin(self.service.closing.begun())
    }

    fn is_crowded(&self) -> bool {
        self.service.is_crowded()
    }
}

/// Whether nothing has gone wrong that its requests have not told of.
pub(super) fn is_a_plain_end(served: &Result<(), RequestError>) -> bool {
    served.as_ref().map_or_else(|error| error.cause.is_the_clients(), |()| true)
}

/// Says how a connection ended, of whose requests the log has spoken by then.
pub(super) fn say_end(request: &Request, served: &Result<(), RequestError>) {
    let (id, client, tls) = (request.id(), request.client_address(), request.tls());
    let tls = tls.map(tracing::field::display);
    match served {
        Ok(()) => tracing::debug!(request = id, %client, tls, "served"),
        Err(RequestError { phase, cause }) if cause.is_the_clients() => {
            tracing::info!(request = id, %client, tls, %phase, "{cause}");
        }
        Err(RequestError { phase, cause }) => {
            tracing::warn!(request = id, %client, tls, %phase, "{cause}");
        }
    }
}
