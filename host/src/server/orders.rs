//! What an accept loop is told from outside: to stop, to pause, to go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::wake::Wake;

/// The loop looks at these whenever it is woken.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) wake: Arc<Wake>,
    is_stopped: AtomicBool,
    is_paused: AtomicBool,
}

impl Orders {
    pub(super) fn new() -> io::Result<Self> {
        let (is_stopped, is_paused) = Default::default();
        Ok(Self { wake: Arc::new(Wake::new()?), is_stopped, is_paused })
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, SeqCst);
        self.wake.wake();
    }

    /// The loop has stopped: what was asked for is done.
    pub(super) fn has_stopped(&self) {
        self.is_stopped.store(false, SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(SeqCst)
    }

    pub(super) fn pause(&self) {
        self.is_paused.store(true, SeqCst);
    }

    pub(super) fn resume(&self) {
        self.is_paused.store(false, SeqCst);
        self.wake.wake();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(SeqCst)
    }
}
