//! What an accept loop is told from outside: to stop, to pause, to go on; and what it says of itself.

use std::io;
use std::sync::atomic::Ordering::SeqCst;

use crate::sync::{Arc, AtomicBool};
use crate::wake::Wake;

/// The loop looks at these whenever it is woken.
#[derive(Debug)]
pub(crate) struct LoopControl {
    pub(crate) wake: Arc<Wake>,
    is_stopped: AtomicBool,
    is_paused: AtomicBool,
    /// Whether the loop may have something in its hands that is not among the open requests: set before it asks whether
    /// it is paused, so that after a pause and a look at this nothing is accepted any more.
    is_busy: AtomicBool,
    /// Whether it has come round since that was last asked.
    has_turned: AtomicBool,
}

impl LoopControl {
    pub(crate) fn new() -> io::Result<Self> {
        let [is_stopped, is_paused, is_busy] = [(); 3].map(|()| AtomicBool::new(false));
        let has_turned = AtomicBool::new(true);
        Ok(Self { wake: Arc::new(Wake::new()?), is_stopped, is_paused, is_busy, has_turned })
    }

    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, SeqCst);
        self.wake.wake();
    }

    /// The loop has stopped: what was asked for is done.
    pub(crate) fn has_stopped(&self) {
        self.is_stopped.store(false, SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(SeqCst)
    }

    pub(crate) fn pause(&self) {
        self.is_paused.store(true, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.is_paused.store(false, SeqCst);
        self.wake.wake();
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(SeqCst)
    }

    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, SeqCst);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy.load(SeqCst)
    }

    pub(crate) fn set_turned(&self) {
        self.has_turned.store(true, SeqCst);
    }

    /// Whether the loop has come round since this was last asked, which wakes it to do so again.
    pub(crate) fn has_turned(&self) -> bool {
        let has_turned = self.has_turned.swap(false, SeqCst);
        self.wake.wake();
        has_turned
    }
}
