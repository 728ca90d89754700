//! How a connection goes from a process that has one version to the next.

use std::sync::{Arc, Mutex, PoisonError};

use crate::sandbox::{Drain, VersionInfo};

pub(crate) struct Handover {
    /// Begins when the version is replaced.
    drain: Option<Arc<Drain>>,
    /// What has come of the next request, for whoever goes on with the connection.
    ahead: Mutex<Option<Vec<u8>>>,
}

impl Handover {
    /// `received` is what had come by the connection before.
    pub(crate) fn new(version: &VersionInfo, received: Vec<u8>) -> Self {
        Self { drain: version.drain.clone(), ahead: Mutex::new(Some(received)) }
    }

    /// Goes on with the connection, if it was given up.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives the connection up. Its client has all that it was sent.
    pub(super) fn give_up(&self, received: Vec<u8>) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(received);
    }

    /// Whether another version serves elsewhere.
    pub(super) fn is_due(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.is_begun())
    }

    /// Comes when another version does.
    pub(super) async fn due(&self) {
        Drain::begun(self.drain.as_deref()).await;
    }
}
