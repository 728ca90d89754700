//! A connection that is served without a slot: all of its requests by the same version.

use std::future::{pending, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Begun, Exchanges, Pending, Room};
use crate::error::RequestError;
use crate::request::Waits;
use crate::sandbox::limits::Watch;
use crate::sandbox::{Handler, VersionInfo};

pub(crate) struct Fixed {
    handler: Handler,
    version: VersionInfo,
    time: Duration,
    first_failure: Mutex<Option<RequestError>>,
}

impl Fixed {
    /// No request gets more than `time`.
    pub(crate) fn new(handler: &Handler, version: &VersionInfo, time: Duration) -> Self {
        let (handler, version) = (handler.clone(), version.clone());
        Self { handler, version, time, first_failure: Mutex::default() }
    }

    /// How the first of its requests failed that did.
    pub(crate) fn first_failure(&self) -> Option<RequestError> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Exchanges for Fixed {
    fn begin(&self, _: u64) -> Option<Begun> {
        let watch = Arc::new(Watch::at_most(self.time, self.handler.sandbox().limits(), Waits::Task));
        let (handler, version) = (self.handler.clone(), self.version.clone());
        Some(Begun { handler, version, watch, kept: Box::new(()) })
    }

    fn more_room(&self) -> Option<Room> {
        None
    }

    fn end(&self, _: u64, _: Begun, served: Result<(), RequestError>) -> Pending<'_> {
        if let Err(error) = served {
            self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        Box::pin(ready(()))
    }

    fn closing(&self) -> Pending<'static> {
        Box::pin(pending())
    }

    fn is_crowded(&self) -> bool {
        false
    }
}
