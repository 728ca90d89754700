//! In the place of `host/src/wake.rs`: an `eventfd` that `loom` knows.

use std::io;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::Notify;
use loom::sync::atomic::AtomicUsize;

#[derive(Debug)]
pub struct Wake {
    notify: Notify,
    count: AtomicUsize,
}

impl Wake {
    pub fn new() -> io::Result<Self> {
        Ok(Self { notify: Notify::new(), count: AtomicUsize::new(0) })
    }

    pub fn wake(&self) {
        self.count.fetch_add(1, SeqCst);
        self.notify.notify();
    }

    pub fn wait(&self) {
        self.notify.wait();
    }

    /// How often it was woken.
    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }
}
