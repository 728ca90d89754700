//! One who follows what happens.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use super::{Event, EventKind, FOLLOWERS, TELL_EVERY, hub};
use crate::wake::Wake;

/// Follows until it is dropped. Its descriptor is readable when something has happened.
#[derive(Debug)]
pub(crate) struct Follower {
    id: u64,
    wake: Arc<Wake>,
    /// What it has not been told yet of itself.
    greeting: Option<Event>,
}

impl Follower {
    /// `None` if as many follow as may.
    pub(crate) fn new() -> io::Result<Option<Self>> {
        let wake = Arc::new(Wake::new()?);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let greeting = Some(Event::now(EventKind::Following { pid: std::process::id(), version }));
        let mut hub = hub();
        let id = hub.enter(wake.clone());
        FOLLOWERS.store(hub.queues.len(), SeqCst);
        Ok(id.map(|id| Self { id, wake, greeting }))
    }

    /// What has happened since the last call, and when to ask again although its descriptor is not readable.
    pub(crate) fn take(&mut self) -> (VecDeque<Event>, Option<Instant>) {
        self.take_at(Instant::now())
    }

    /// The same at the end, for which nothing waits that would be told a little later.
    pub(crate) fn take_last(&mut self) -> (VecDeque<Event>, Option<Instant>) {
        self.take_at(Instant::now() + TELL_EVERY)
    }

    fn take_at(&mut self, now: Instant) -> (VecDeque<Event>, Option<Instant>) {
        let (mut events, next) = hub().take(self.id, now);
        if let Some(greeting) = self.greeting.take() {
            events.push_front(greeting);
        }
        (events, next)
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut hub = hub();
        hub.leave(self.id);
        FOLLOWERS.store(hub.queues.len(), SeqCst);
    }
}
