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
    /// Accept loops that found no room.
    full: Waiting,
    /// Accept loops that could not accept for want of something that open requests hold.
    starved: Waiting,
}

/// Accept loops that wait to be woken.
#[derive(Debug, Default)]
struct Waiting {
    wakes: Mutex<Vec<Arc<Wake>>>,
    /// Keeps the lock out of the way of requests that end while nobody waits.
    is_awaited: AtomicBool,
}

/// Room for one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// Whether a request has had it: only then is there more of anything once it is given back. Otherwise accept
    /// loops that cannot accept would wake each other without end.
    is_used: bool,
}

impl Admission {
    pub(crate) fn new(max: usize, parent: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max,
            parent,
            full: Waiting::default(),
            starved: Waiting::default(),
        })
    }

    /// The bound that new requests meet first.
    pub(crate) fn max(&self) -> usize {
        self.parent.as_ref().map_or(self.max, |parent| self.max.min(parent.max()))
    }

    /// Room for one, if there is some.
    pub(crate) fn try_admit(self: &Arc<Self>) -> Option<Permit> {
        self.try_enter().then(|| Permit { admission: self.clone(), is_used: false })
    }

    /// How many requests have room.
    pub(crate) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Room for one request, or a promise to wake `wake` when there is some.
    pub(crate) fn admit(self: &Arc<Self>, wake: &Arc<Wake>) -> Option<Permit> {
        if !self.try_enter() {
            self.lineage().for_each(|admission| admission.full.promise(wake));
            // A request may have ended between the first try and the promise.
            if !self.try_enter() {
                return None;
            }
        }
        Some(Permit { admission: self.clone(), is_used: false })
    }

    /// Promises to wake `wake` when a request ends.
    pub(crate) fn wake_on_end(&self, wake: &Arc<Wake>) {
        self.lineage().for_each(|admission| admission.starved.promise(wake));
    }

    fn try_enter(&self) -> bool {
        let entered =
            self.open.fetch_update(SeqCst, SeqCst, |open| (open < self.max).then_some(open + 1)).is_ok();
        if entered && self.parent.as_ref().is_some_and(|parent| !parent.try_enter()) {
            self.leave(false);
            return false;
        }
        entered
    }

    fn leave(&self, is_end: bool) {
        self.open.fetch_sub(1, SeqCst);
        self.full.wake_all();
        if is_end {
            self.starved.wake_all();
        }
    }

    /// This one and those above it.
    fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |admission| admission.parent.as_deref())
    }
}

impl Waiting {
    fn promise(&self, wake: &Arc<Wake>) {
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakes.iter().any(|other| Arc::ptr_eq(other, wake)) {
            wakes.push(wake.clone());
        }
        self.is_awaited.store(true, SeqCst);
    }

    fn wake_all(&self) {
        if self.is_awaited.swap(false, SeqCst) {
            let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
            wakes.drain(..).for_each(|wake| wake.wake());
        }
    }
}

impl Permit {
    /// A request has it now.
    pub(crate) fn in_use(mut self) -> Self {
        self.is_used = true;
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.lineage().for_each(|admission| admission.leave(self.is_used));
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

    #[test]
    fn who_cannot_accept_is_woken_by_the_end_of_a_request_alone() {
        let admission = Admission::new(2, Some(Admission::new(2, None)));
        let wake = Arc::new(Wake::new().unwrap());
        let is_woken = || crate::wake::is_ready(wake.as_fd(), PollFlags::IN);
        let (open, unused) = (admission.admit(&wake).unwrap().in_use(), admission.admit(&wake).unwrap());
        admission.wake_on_end(&wake);
        drop(unused);
        assert!(!is_woken());
        drop(open);
        assert!(is_woken());
    }
}
