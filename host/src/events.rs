//! What happens, told to those who follow it on a control socket.
//!
//! Whoever brings something about [`emit`]s it, and waits for nobody: each follower has a queue of a bounded length, and
//! is told how much of what happened did not fit. What clients can bring about at will is told once in a while, with a
//! count. Where nobody follows, an event costs one load and is not even put together.

mod follower;
mod kind;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

pub(crate) use follower::Follower;
pub use kind::EventKind;

use crate::wake::Wake;

/// As many may follow at once: each has a thread of the control socket, and some are left for commands.
pub(crate) const FOLLOWERS_MAX: usize = 8;

/// As much may wait for one of them.
const QUEUED_MAX: usize = 1024;

/// As many different things may recur at once and be told once in a while.
const RECURRING_MAX: usize = 1024;

/// What recurs is told so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Something that happened in this process, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// In UTC, as RFC 3339 writes it.
    pub time: String,
    /// What it was.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Event {
    fn now(kind: EventKind) -> Self {
        Self { time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(), kind }
    }
}

/// How many follow.
static FOLLOWERS: AtomicUsize = AtomicUsize::new(0);

static HUB: Mutex<Hub> = Mutex::new(Hub::new());

/// Tells those who follow, if anybody does.
pub fn emit(event: impl FnOnce() -> EventKind) {
    if FOLLOWERS.load(Relaxed) > 0 {
        let event = event();
        hub().emit(event, Instant::now());
    }
}

fn hub() -> MutexGuard<'static, Hub> {
    HUB.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who follow, and what recurs.
#[derive(Debug)]
struct Hub {
    last_follower: u64,
    queues: Vec<Queue>,
    recurring: Vec<Recurring>,
}

/// What one follower has not taken yet.
#[derive(Debug)]
struct Queue {
    follower: u64,
    wake: Arc<Wake>,
    events: VecDeque<Event>,
    /// What did not fit.
    lost: u64,
}

/// What was told lately, and not again since.
#[derive(Debug)]
struct Recurring {
    event: EventKind,
    /// How often it has happened since it was told.
    untold: u64,
    until: Instant,
}

impl Hub {
    const fn new() -> Self {
        Self { last_follower: 0, queues: Vec::new(), recurring: Vec::new() }
    }

    /// `None` if as many follow as may.
    fn enter(&mut self, wake: Arc<Wake>) -> Option<u64> {
        if self.queues.len() == FOLLOWERS_MAX {
            return None;
        }
        self.last_follower += 1;
        let queue = Queue { follower: self.last_follower, wake, events: VecDeque::new(), lost: 0 };
        self.queues.push(queue);
        Some(self.last_follower)
    }

    fn leave(&mut self, follower: u64) {
        self.queues.retain(|queue| queue.follower != follower);
        if self.queues.is_empty() {
            self.recurring.clear();
        }
    }

    fn emit(&mut self, event: EventKind, now: Instant) {
        if event.recurs_as().is_some() {
            self.tell_recurring(now);
            let is_alike = |recurring: &&mut Recurring| recurring.event.recurs_as() == event.recurs_as();
            if let Some(recurring) = self.recurring.iter_mut().find(is_alike) {
                recurring.untold += 1;
                recurring.event = event;
                return;
            }
            self.recurs(event.clone(), now);
        }
        self.tell(event);
    }

    fn recurs(&mut self, event: EventKind, now: Instant) {
        if self.recurring.len() < RECURRING_MAX {
            self.recurring.push(Recurring { event, untold: 0, until: now + TELL_EVERY });
        }
    }

    /// Tells what has happened again since it was told, and has had to wait for long enough.
    fn tell_recurring(&mut self, now: Instant) {
        let due: Vec<Recurring> = self.recurring.extract_if(.., |recurring| recurring.until <= now).collect();
        for Recurring { mut event, untold, .. } in due {
            if let Some(count) = event.count_mut().filter(|_| untold > 0) {
                *count = untold;
                self.recurs(event.clone(), now);
                self.tell(event);
            }
        }
    }

    fn tell(&mut self, event: EventKind) {
        let event = Event::now(event);
        for queue in &mut self.queues {
            if queue.events.len() == QUEUED_MAX {
                queue.lost += 1;
                continue;
            }
            queue.events.push_back(event.clone());
            if queue.events.len() == 1 {
                queue.wake.wake();
            }
        }
    }

    /// What a follower has not seen yet, and when to look again although nothing new has happened.
    fn take(&mut self, follower: u64, now: Instant) -> (VecDeque<Event>, Option<Instant>) {
        self.tell_recurring(now);
        let next = self.recurring.iter().map(|recurring| recurring.until).min();
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.follower == follower) else {
            return (VecDeque::new(), None);
        };
        queue.wake.clear();
        let mut events = std::mem::take(&mut queue.events);
        let lost = std::mem::take(&mut queue.lost);
        if lost > 0 {
            events.push_back(Event::now(EventKind::Lost { count: lost }));
        }
        (events, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub_with_a_follower() -> (Hub, u64) {
        let mut hub = Hub::new();
        let follower = hub.enter(Arc::new(Wake::new().unwrap())).unwrap();
        (hub, follower)
    }

    fn refused(reason: &str) -> EventKind {
        EventKind::Refused { address: "tcp://[::]:7".to_owned(), reason: reason.to_owned(), count: 1 }
    }

    fn kinds(hub: &mut Hub, follower: u64, now: Instant) -> Vec<EventKind> {
        hub.take(follower, now).0.into_iter().map(|event| event.kind).collect()
    }

    #[test]
    fn a_follower_that_is_slow_is_told_how_much_it_has_missed() {
        let (mut hub, follower) = hub_with_a_follower();
        let now = Instant::now();
        (0..QUEUED_MAX + 7).for_each(|_| hub.emit(EventKind::Reloading {}, now));
        let events = kinds(&mut hub, follower, now);
        assert_eq!(events.len(), QUEUED_MAX + 1);
        assert_eq!(events[QUEUED_MAX], EventKind::Lost { count: 7 });
        assert_eq!(kinds(&mut hub, follower, now), []);
        hub.emit(EventKind::Reloading {}, now);
        assert_eq!(kinds(&mut hub, follower, now), [EventKind::Reloading {}]);
    }

    #[test]
    fn what_recurs_is_told_at_once_and_then_once_in_a_while_with_a_count() {
        let (mut hub, follower) = hub_with_a_follower();
        let now = Instant::now();
        (0..1000).for_each(|_| hub.emit(refused("rate"), now));
        hub.emit(refused("denied"), now);
        assert_eq!(kinds(&mut hub, follower, now), [refused("rate"), refused("denied")]);
        let (_, next) = hub.take(follower, now);
        assert_eq!(next, Some(now + TELL_EVERY));
        let later = now + TELL_EVERY;
        let mut others = refused("rate");
        *others.count_mut().unwrap() = 999;
        assert_eq!(kinds(&mut hub, follower, later), [others]);
        // Nothing more has happened: it is forgotten, and nobody looks again.
        assert_eq!(kinds(&mut hub, follower, later + TELL_EVERY), []);
        assert_eq!(hub.take(follower, later + TELL_EVERY).1, None);
        hub.emit(refused("rate"), later + TELL_EVERY);
        assert_eq!(kinds(&mut hub, follower, later + TELL_EVERY), [refused("rate")]);
    }

    #[test]
    fn as_many_follow_as_may_and_what_recurs_is_bounded() {
        let mut hub = Hub::new();
        let wake = Arc::new(Wake::new().unwrap());
        let followers: Vec<_> = (0..FOLLOWERS_MAX).filter_map(|_| hub.enter(wake.clone())).collect();
        assert_eq!((followers.len(), hub.enter(wake.clone())), (FOLLOWERS_MAX, None));
        let now = Instant::now();
        (0..2 * RECURRING_MAX).for_each(|number| hub.emit(refused(&number.to_string()), now));
        assert_eq!(hub.recurring.len(), RECURRING_MAX);
        followers.into_iter().for_each(|follower| hub.leave(follower));
        assert!(hub.recurring.is_empty() && hub.enter(wake).is_some());
    }
}
