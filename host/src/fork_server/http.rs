//! A connection that brings requests of HTTP, served in a child: all of them by the version that the child has. When that is
//! replaced, the connection goes back to the host, for a child of the next.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::message::Report;
use crate::error::RequestError;
use crate::helper_process::send;
use crate::request::Waits;
use crate::sandbox::{Begun, Drain, Exchanges, Handler, Pending, Room, VersionInfo, Watch};

pub(super) struct Exchanged {
    handler: Handler,
    version: VersionInfo,
    closing: Arc<Drain>,
    status: Arc<OwnedFd>,
    received: Mutex<Vec<u8>>,
    handed_back: Mutex<Option<Vec<u8>>>,
}

impl Exchanged {
    /// `received` is what has come of the connection before.
    pub(super) fn new(
        handler: &Handler,
        version: &VersionInfo,
        closing: &Arc<Drain>,
        status: &Arc<OwnedFd>,
        received: Vec<u8>,
    ) -> Self {
        let (handler, version) = (handler.clone(), version.clone());
        let (closing, status) = (closing.clone(), status.clone());
        let (received, handed_back) = (Mutex::new(received), Mutex::default());
        Self { handler, version, closing, status, received, handed_back }
    }

    /// What has come of the next request, where another version is to serve it.
    pub(super) fn handed_back(&self) -> Option<Vec<u8>> {
        self.handed_back.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Exchanges for Exchanged {
    fn begin(&self, _: u64) -> Option<Begun> {
        let watch = Arc::new(Watch::new(self.handler.sandbox().limits(), Waits::Task));
        let (handler, version) = (self.handler.clone(), self.version.clone());
        Some(Begun { handler, version, watch, kept: Box::new(Instant::now()) })
    }

    /// The process has the memory of one.
    fn more_room(&self) -> Option<Room> {
        None
    }

    fn end(&self, _: u64, begun: Begun, served: Result<(), RequestError>) -> Pending<'_> {
        let latency = begun.kept.downcast_ref::<Instant>().map(Instant::elapsed).unwrap_or_default();
        // A host that has gone need not know.
        let _ = send(&self.status, &Report::Exchanged(served, latency), &[]);
        Box::pin(std::future::ready(()))
    }

    fn closing(&self) -> Pending<'static> {
        let closing = self.closing.clone();
        Box::pin(async move {
            if closing.begun().await.is_err() {
                std::future::pending().await
            }
        })
    }

    fn is_crowded(&self) -> bool {
        false
    }

    fn received(&self) -> Vec<u8> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replaced(&self) -> Pending<'static> {
        let drain = self.version.drain.clone();
        Box::pin(async move {
            match drain {
                Some(drain) if drain.begun().await.is_ok() => {}
                _ => std::future::pending().await,
            }
        })
    }

    fn is_replaced(&self) -> bool {
        self.version.drain.as_ref().is_some_and(|drain| drain.is_begun())
    }

    fn hand_back(&self, received: Vec<u8>) {
        *self.handed_back.lock().unwrap_or_else(PoisonError::into_inner) = Some(received);
    }
}
