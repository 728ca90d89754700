//! What a handler may know of the version that it is, and how its requests learn that it was replaced.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;

use crate::request::Waitable;

/// What a handler may know of its version.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionInfo {
    /// Counts the versions of the slot, from 1.
    pub(crate) generation: u64,
    /// Begun when the version is replaced; `None` if handlers are not to be told.
    pub(crate) drain: Option<Arc<Drain>>,
}

/// An `eventfd` that stays readable once the drain has begun: children of a fork server share it.
#[derive(Debug)]
pub(crate) struct Drain(Waitable<OwnedFd>);

impl Drain {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Never blocks; the only possible failure is a full counter, which is already readable.
    pub(crate) fn begin(&self) {
        let _ = rustix::io::write(self.0.socket(), &1u64.to_ne_bytes());
    }

    /// It has not begun after all, for whoever has not seen it yet.
    pub(crate) fn take_back(&self) {
        let _ = rustix::io::read(self.0.socket(), &mut [0; 8]);
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.0.is_ready(Interest::READABLE)
    }

    /// Comes when the drain begins: never where there is none. One that cannot be waited for leaves things as they are without.
    pub(crate) async fn begun(drain: Option<&Self>) {
        match drain {
            Some(Self(event)) if event.ready(Interest::READABLE, None).await.is_ok() => {}
            _ => pending().await,
        }
    }
}

/// The same drain in another process.
impl From<OwnedFd> for Drain {
    fn from(event: OwnedFd) -> Self {
        Self(Waitable::non_blocking(event))
    }
}

impl AsFd for Drain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket().as_fd()
    }
}
