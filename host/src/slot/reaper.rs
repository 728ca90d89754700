//! Cuts off requests whose version was replaced for longer than `max_drain`.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

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

/// When a version is looked at again whose requests were cut off: one that was still being verified then was
/// not among them, and one that waited for a fork server could not be killed.
const AGAIN: Duration = Duration::from_secs(1);

fn reap(slot: &Weak<Inner>, replaced: &Receiver<Due>) {
    let mut draining: Vec<Due> = Vec::new();
    loop {
        let next = match draining.iter().map(|(_, until)| *until).min() {
            Some(until) => replaced.recv_deadline(until),
            None => replaced.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(due) => draining.push(due),
            Err(RecvTimeoutError::Timeout) => {
                let Some(slot) = slot.upgrade() else { return };
                let now = Instant::now();
                for (version, until) in draining.iter_mut().filter(|(_, until)| *until <= now) {
                    if let Some(version) = version.upgrade() {
                        slot.cut(&version);
                    }
                    *until = now + AGAIN;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        draining.retain(|(version, _)| version.strong_count() > 0);
    }
}
