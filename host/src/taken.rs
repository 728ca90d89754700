//! What requests take of their host, as whoever serves them counts it; a process that serves says so to its host.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Phase;
use crate::traces::Recorded;

/// What one request has taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// How long it was in each phase, as `Phase::ALL` has them; nothing where that is not measured.
    pub(crate) phases: [Duration; Phase::ALL.len()],
    /// `None` if it never had one.
    pub(crate) instance: Option<InstanceOrigin>,
    pub(crate) volume: Volume,
    /// How many requests of HTTP were answered with a status of each class.
    pub(crate) answers: [u64; CLASSES.len()],
    /// Lines of its guest's that were not logged.
    pub(crate) dropped_lines: u64,
    /// Requests of HTTP that were answered without a guest, and are sampled.
    pub(crate) refused: Vec<Recorded>,
    /// What its spans are made of, if it is sampled.
    pub(crate) trace: Option<Box<Recorded>>,
}

/// The most of them that are told of at once.
pub(crate) const REFUSED_MAX: usize = 8;

impl Taken {
    /// How long it was in one phase.
    pub(crate) fn phase(&self, phase: Phase) -> Duration {
        self.phases[phase as usize]
    }
}

/// Where a request had its instance from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InstanceOrigin {
    /// It was made for it.
    New,
    /// It was made ahead.
    Ahead,
    /// It had served others before.
    Reused,
}

impl InstanceOrigin {
    pub(crate) const ALL: [Self; 3] = [Self::New, Self::Ahead, Self::Reused];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ahead => "ahead",
            Self::Reused => "reused",
        }
    }
}

/// Bytes that passed between a client and its handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// Counts them.
#[derive(Debug, Default)]
pub(crate) struct VolumeCount {
    received: AtomicU64,
    sent: AtomicU64,
    /// How much of that was taken.
    received_taken: AtomicU64,
    sent_taken: AtomicU64,
}

impl VolumeCount {
    pub(crate) fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn send(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add(&self, volume: Volume) {
        self.received.fetch_add(volume.received, Relaxed);
        self.sent.fetch_add(volume.sent, Relaxed);
    }

    /// What has come together since this was last called: each byte is somebody's once, whoever asks meanwhile.
    pub(crate) fn take(&self) -> Volume {
        let Volume { received, sent } = self.so_far();
        // Somebody who took later may have been here before.
        let left = |so_far: u64, taken: &AtomicU64| so_far.saturating_sub(taken.fetch_max(so_far, Relaxed));
        Volume { received: left(received, &self.received_taken), sent: left(sent, &self.sent_taken) }
    }

    pub(crate) fn so_far(&self) -> Volume {
        Volume { received: self.received.load(Relaxed), sent: self.sent.load(Relaxed) }
    }
}

/// The classes of HTTP's statuses.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts answers by their class.
#[derive(Debug, Default)]
pub(crate) struct AnswerCount([AtomicU64; CLASSES.len()]);

impl AnswerCount {
    pub(crate) fn count(&self, status: http::StatusCode) {
        // A guest may give one that is of none.
        if let Some(count) = self.0.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn add(&self, answers: &[u64; CLASSES.len()]) {
        for (count, more) in self.0.iter().zip(answers) {
            count.fetch_add(*more, Relaxed);
        }
    }

    /// What has come together since this was last called.
    pub(crate) fn take(&self) -> [u64; CLASSES.len()] {
        array::from_fn(|class| self.0[class].swap(0, Relaxed))
    }

    pub(crate) fn so_far(&self) -> [u64; CLASSES.len()] {
        array::from_fn(|class| self.0[class].load(Relaxed))
    }
}
