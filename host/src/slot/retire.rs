//! Lets replaced versions end what they have begun, and cuts off what goes on for longer than `max_drain`.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::publish::Publisher;
use super::{Inner, Slot, Version, VersionState};
use crate::events::{EventKind, emit};

impl Slot {
    /// Lets a version end what it has begun.
    pub(super) fn retire(&self, publisher: &mut Publisher, version: &Arc<Version>, outcome: VersionState) {
        version.record.stop_observing();
        version.record.set_state(outcome);
        version.handler.keep_idle(false);
        if let Some(drain) = &version.info.drain {
            drain.begin();
        }
        let Some(time) = self.0.options.load().max_drain else { return };
        if publisher.reaper.is_none() {
            match Reaper::start(&self.0) {
                Ok(reaper) => publisher.reaper = Some(reaper),
                Err(error) => tracing::error!("nothing will cut off what drains for too long: {error}"),
            }
        }
        if let (Some(reaper), Some(at)) = (&publisher.reaper, Instant::now().checked_add(time)) {
            reaper.watch(version, at);
        }
    }
}

impl Inner {
    /// Cuts off what is still open of a version that was replaced.
    fn cut(&self, version: &Version) {
        let cut: usize = self.servers().iter().map(|server| server.cut(version)).sum();
        if cut > 0 {
            let generation = version.info.generation;
            emit(|| EventKind::CutOff { slot: self.name.clone(), generation, count: cut as u64 });
            tracing::warn!(slot = self.name, generation, "cut off {cut} requests of a replaced version");
        }
    }
}

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
