//! How many requests may be open at once; beyond it, new ones wait in the kernel's listen queue.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use crate::wake::Wake;

/// A count of open requests with a bound.
///
/// A sandbox has one, which its servers share; a server whose strategy can hold fewer has one below it.
#[derive(Debug)]
pub(crate) struct Admission {
    open: AtomicUsize,
    max: usize,
    parent: Option<Arc<Admission>>,
    /// Accept loops that found no room and wait to be woken.
    waiting: Mutex<Vec<Arc<Wake>>>,
    /// Keeps the lock out of the way of requests that end while nobody waits.
    is_awaited: AtomicBool,
}

/// Room for one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Admission>);

impl Admission {
    pub(crate) fn new(max: usize, parent: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max,
            parent,
            waiting: Mutex::default(),
            is_awaited: AtomicBool::new(false),
        })
    }

    /// The bound that new requests meet first.
    pub(crate) fn max(&self) -> usize {
        self.parent.as_ref().map_or(self.max, |parent| self.max.min(parent.max()))
    }

    /// Room for one request, or a promise to wake `wake` when there is some.
    pub(crate) fn admit(self: &Arc<Self>, wake: &Arc<Wake>) -> Option<Permit> {
        if !self.try_enter() {
            self.wake_on_leave(wake);
            // A request may have ended between the first try and the promise.
            if !self.try_enter() {
                return None;
            }
        }
        Some(Permit(self.clone()))
    }

    /// Promises to wake `wake` when a request ends.
    pub(crate) fn wake_on_leave(&self, wake: &Arc<Wake>) {
        self.lineage().for_each(|admission| admission.promise(wake));
    }

    fn try_enter(&self) -> bool {
        let entered =
            self.open.fetch_update(SeqCst, SeqCst, |open| (open < self.max).then_some(open + 1)).is_ok();
        if entered && self.parent.as_ref().is_some_and(|parent| !parent.try_enter()) {
            self.leave();
            return false;
        }
        entered
    }

    fn promise(&self, wake: &Arc<Wake>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| Arc::ptr_eq(other, wake)) {
            waiting.push(wake.clone());
        }
        self.is_awaited.store(true, SeqCst);
    }

    fn leave(&self) {
        self.open.fetch_sub(1, SeqCst);
        if self.is_awaited.swap(false, SeqCst) {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(|wake| wake.wake());
        }
    }

    /// This one and those above it.
    fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |admission| admission.parent.as_deref())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.lineage().for_each(Admission::leave);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::PollFlags;
    use std::os::fd::AsFd;

    #[test]
    fn who_found_no_room_is_woken() {
        let admission = Admission::new(1, Some(Admission::new(2, None)));
        let wake = Arc::new(Wake::new().unwrap());
        let permit = admission.admit(&wake).unwrap();
        assert!(admission.admit(&wake).is_none());
        assert!(!crate::wake::is_ready(wake.as_fd(), PollFlags::IN));
        drop(permit);
        assert!(crate::wake::is_ready(wake.as_fd(), PollFlags::IN));
        assert!(admission.admit(&wake).is_some());
    }
}
