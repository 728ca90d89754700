//! How many requests may be open at once; beyond it, new ones wait in the kernel's listen queue.
//!
//! An accept loop looks for room first and takes it for what it has accepted, so that nothing but a request ever has
//! room, and what gives room back is the end of a request. Where there is none, the loop leaves its [`Wake`] and sleeps.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex};
use crate::wake::Wake;

/// The most of something, and how many there are.
#[derive(Debug)]
pub(crate) struct Bound {
    max: AtomicUsize,
    taken: AtomicUsize,
    /// Accept loops to wake when there is one less.
    sleepers: Mutex<Vec<Arc<Wake>>>,
    /// Keeps the lock out of the way of requests that end while nobody sleeps.
    has_sleepers: AtomicBool,
}

/// Room for one below a [`Bound`]; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room(Arc<Bound>);

impl Bound {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let (max, taken) = (AtomicUsize::new(max), AtomicUsize::new(0));
        Arc::new(Self { max, taken, sleepers: Mutex::new(Vec::new()), has_sleepers: AtomicBool::new(false) })
    }

    /// Room for one, if there is some.
    pub(crate) fn take(bound: &Arc<Self>) -> Option<Room> {
        let one_more = |taken| (taken < bound.max()).then_some(taken + 1);
        let is_taken = bound.taken.fetch_update(SeqCst, SeqCst, one_more).is_ok();
        is_taken.then(|| Room(bound.clone()))
    }

    fn max(&self) -> usize {
        self.max.load(SeqCst)
    }

    /// Bounds what comes from now on, and wakes who waits for more.
    fn set_max(&self, max: usize) {
        self.max.store(max, SeqCst);
        self.wake_sleepers();
    }

    fn has_room(&self) -> bool {
        self.taken.load(SeqCst) < self.max()
    }

    /// What `look` finds, or a promise to wake `wake` when there is room.
    fn look_or_sleep<T>(&self, wake: &Arc<Wake>, look: impl Fn() -> Option<T>) -> Option<T> {
        look().or_else(|| {
            self.wake_when_left(wake);
            // One may have left between the first look and the promise.
            look()
        })
    }

    fn wake_sleepers(&self) {
        if self.has_sleepers.swap(false, SeqCst) {
            let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            sleepers.drain(..).for_each(|wake| wake.wake());
        }
    }

    fn wake_when_left(&self, wake: &Arc<Wake>) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        if !sleepers.iter().any(|other| Arc::ptr_eq(other, wake)) {
            sleepers.push(wake.clone());
        }
        self.has_sleepers.store(true, SeqCst);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Self(bound) = self;
        bound.taken.fetch_sub(1, SeqCst);
        bound.wake_sleepers();
    }
}

/// How many requests one server may have open: no more than it can hold itself, and no more than all servers of its
/// sandbox together.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Entered by the server's one accept loop alone, so that what it finds it can take.
    own: Arc<Bound>,
    all: Arc<Bound>,
}

/// Room for one request.
#[derive(Debug)]
pub(crate) struct Permit {
    _all: Room,
    _own: Room,
}

impl Admission {
    pub(crate) fn new(max: usize, all: Arc<Bound>) -> Self {
        Self { own: Bound::new(max), all }
    }

    /// The bound that new requests meet first.
    pub(crate) fn max(&self) -> usize {
        self.own.max().min(self.all.max())
    }

    /// How many requests the server may have open from now on.
    pub(crate) fn set_max(&self, max: usize) {
        self.own.set_max(max);
    }

    /// Whether there is room for one more; otherwise `wake` is woken when there is.
    pub(crate) fn has_room(&self, wake: &Arc<Wake>) -> bool {
        let look = |bound: &Arc<Bound>| bound.look_or_sleep(wake, || bound.has_room().then_some(()));
        look(&self.own).and_then(|()| look(&self.all)).is_some()
    }

    /// Room for a request that was accepted; otherwise `wake` is woken when there is.
    pub(crate) fn admit(&self, wake: &Arc<Wake>) -> Option<Permit> {
        self.own.look_or_sleep(wake, || self.own.has_room().then_some(()))?;
        let all = self.all.look_or_sleep(wake, || Bound::take(&self.all))?;
        Some(Permit { _all: all, _own: Bound::take(&self.own)? })
    }

    /// Wakes `wake` when a request of any server ends, and gives back whatever it holds.
    pub(crate) fn wake_on_end(&self, wake: &Arc<Wake>) {
        self.all.wake_when_left(wake);
    }
}
