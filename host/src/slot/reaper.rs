//! Cuts off requests whose version was replaced for longer than `max_drain`.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::{Inner, Version};

/// A thread of a slot's. It ends with the slot.
#[derive(Debug)]
pub(super) struct Reaper(Sender<Due>);

/// A replaced version, and when it has had its time.
type Due = (Weak<Version>, Instant);

impl Reaper {
    pub(super) fn start(slot: &Arc<Inner>) -> io::Result<Self> {
        let (sender, receiver) = unbounded();
        let slot = Arc::downgrade(slot);
        thread::Builder::new().name("reaper".to_owned()).spawn(move || reap(&slot, &receiver))?;
        Ok(Self(sender))
    }

    pub(super) fn watch(&self, version: &Arc<Version>, until: Instant) {
        // The thread receives for as long as this sender lives.
        let _ = self.0.send((Arc::downgrade(version), until));
    }
}

fn reap(slot: &Weak<Inner>, replaced: &Receiver<Due>) {
    // In the order of their times, since all get the same.
    let mut draining: VecDeque<Due> = VecDeque::new();
    loop {
        let next = match draining.front() {
            Some((_, until)) => replaced.recv_deadline(*until),
            None => replaced.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(due) => {
                draining.retain(|(version, _)| version.strong_count() > 0);
                draining.push_back(due);
            }
            Err(RecvTimeoutError::Timeout) => {
                let late = draining.pop_front().and_then(|(version, _)| version.upgrade());
                if let (Some(slot), Some(version)) = (slot.upgrade(), late) {
                    slot.cut(&version);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
