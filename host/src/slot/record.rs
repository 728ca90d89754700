//! What is counted of a version, and how long it is remembered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram as HdrHistogram;

use super::Share;
use crate::error::{Cause, Phase, RequestError};
use crate::histogram::Histogram;
use crate::sandbox::{Handler, Origin};
use crate::taken::{InstanceOrigin, Taken};

/// How many versions a slot remembers; only the last two keep their code.
const REMEMBERED: usize = 16;

/// The versions so far, the newest last.
#[derive(Debug, Default)]
pub(super) struct Records(VecDeque<Arc<Record>>);

impl Records {
    pub(super) fn add(&mut self, record: Arc<Record>) {
        self.0.push_back(record);
        if self.0.len() > REMEMBERED
            && let Some(oldest) = self.0.iter().position(|record| !record.gets_requests())
        {
            self.0.remove(oldest);
        }
    }

    /// The newest first.
    pub(super) fn measures(&self) -> Vec<VersionMeasures> {
        self.0.iter().rev().map(|record| record.measures()).collect()
    }

    /// The newest first.
    pub(super) fn stats(&self) -> Vec<VersionStats> {
        self.0.iter().rev().map(|record| record.stats()).collect()
    }
}

/// What stays known of a version when it has gone.
#[derive(Debug)]
pub(super) struct Record {
    generation: u64,
    name: String,
    digest: String,
    origin: Option<Origin>,
    since: SystemTime,
    pub(super) published: Instant,
    state: Mutex<VersionState>,
    /// Whether failures may still roll it back.
    is_observed: AtomicBool,
    open: AtomicUsize,
    counts: Mutex<Counts>,
}

/// What is measured of a version.
#[derive(Clone, Debug)]
pub(crate) struct VersionMeasures {
    pub(crate) stats: VersionStats,
    pub(crate) counts: Counts,
}

impl Record {
    pub(super) fn new(handler: &Handler, generation: u64) -> Self {
        Self {
            generation,
            name: handler.name().to_owned(),
            digest: handler.digest().to_owned(),
            origin: handler.origin().cloned(),
            since: SystemTime::now(),
            published: Instant::now(),
            state: Mutex::new(VersionState::Serving),
            is_observed: AtomicBool::new(true),
            open: AtomicUsize::new(0),
            counts: Mutex::default(),
        }
    }

    /// Counts one more request as open.
    pub(super) fn open_one(&self) {
        self.open.fetch_add(1, SeqCst);
    }

    pub(super) fn close_one(&self) {
        self.open.fetch_sub(1, SeqCst);
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_state(&self, state: VersionState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Whether new requests get it.
    pub(super) fn gets_requests(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, VersionState::Serving | VersionState::Canary(_))
    }

    /// Whether it is the first to ask for what is done once.
    pub(super) fn stop_observing(&self) -> bool {
        self.is_observed.swap(false, Relaxed)
    }

    fn measures(&self) -> VersionMeasures {
        let counts = self.counts();
        VersionMeasures { stats: self.stats_with(&counts), counts: counts.clone() }
    }

    fn stats(&self) -> VersionStats {
        self.stats_with(&self.counts())
    }

    fn stats_with(&self, counts: &Counts) -> VersionStats {
        let quantile =
            |q| Duration::from_micros(counts.latency.as_ref().map_or(0, |all| all.value_at_quantile(q)));
        VersionStats {
            generation: self.generation,
            handler: self.name.clone(),
            digest: self.digest.clone(),
            origin: self.origin.clone(),
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            since: self.since,
            open: self.open.load(SeqCst),
            ended: counts.ended,
            failed: counts.failed,
            broken_off: counts.broken_off,
            cut: counts.cut,
            limits: counts.limits.clone(),
            latency: [0.5, 0.9, 0.99].map(quantile),
        }
    }
}

/// How the requests of a version went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(super) ended: u64,
    pub(super) failed: u64,
    broken_off: u64,
    cut: u64,
    limits: BTreeMap<String, u64>,
    /// In microseconds; made with the first request.
    latency: Option<HdrHistogram<u64>>,
    /// Those that did not end as they should, as `Cause::NAMES` has them.
    pub(crate) causes: [u64; Cause::NAMES.len()],
    /// Where they had their instances from, as `InstanceOrigin::ALL` has them.
    pub(crate) instances: [u64; InstanceOrigin::ALL.len()],
    pub(crate) times: Histogram,
    /// How long they were in each phase, as `Phase::OF_HANDLER` has them, where that is measured.
    pub(crate) phases: [Histogram; Phase::OF_HANDLER.len()],
}

/// The longest time that the histogram tells from longer ones, in microseconds: a day.
const LATENCY_MAX: u64 = 24 * 3600 * 1_000_000;

impl Counts {
    pub(super) fn count(&mut self, served: &Result<(), RequestError>, latency: Duration, taken: &Taken) {
        self.ended += 1;
        if let Err(error) = served {
            self.causes[error.cause.number()] += 1;
        }
        if let Some(origin) = taken.instance {
            self.instances[origin as usize] += 1;
        }
        self.times.record(latency);
        for (phase, times) in Phase::OF_HANDLER.into_iter().zip(&mut self.phases) {
            let time = taken.phase(phase);
            if !time.is_zero() {
                times.record(time);
            }
        }
        match served.as_ref().map_err(|error| &error.cause) {
            Ok(()) => {}
            Err(Cause::Limit(limit)) if limit.is_a_cut() => self.cut += 1,
            Err(cause) => {
                *if cause.is_the_clients() { &mut self.broken_off } else { &mut self.failed } += 1;
                if let Cause::Limit(limit) = cause {
                    *self.limits.entry(limit.name().to_owned()).or_default() += 1;
                }
            }
        }
        let latency = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let histogram = self.latency.get_or_insert_with(|| {
            HdrHistogram::new_with_bounds(1, LATENCY_MAX, 2).expect("the bounds are in order")
        });
        histogram.saturating_record(latency);
    }
}

/// Where a version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// New requests get it.
    Serving,
    /// This share of the new requests gets it.
    Canary(Share),
    /// It was replaced; what it had begun it ends.
    Replaced,
    /// Its share of requests was taken back.
    Aborted,
    /// The one before it was put back, for this reason.
    RolledBack(String),
}

/// What is known of a version.
#[derive(Clone, Debug)]
pub struct VersionStats {
    /// Counts the versions of the slot, from 1.
    pub generation: u64,
    /// The handler's name.
    pub handler: String,
    /// SHA-256 of the component, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Where it was loaded from, if from anywhere.
    pub origin: Option<Origin>,
    /// Where it stands.
    pub state: VersionState,
    /// Since when it has served.
    pub since: SystemTime,
    /// Requests that it serves now.
    pub open: usize,
    /// Requests that have ended, however they went.
    pub ended: u64,
    /// Those of them that failed by the handler's fault or the host's.
    pub failed: u64,
    /// Those that ended by the client's doing: it broke off, or was silent or slow for too long.
    pub broken_off: u64,
    /// Those that were cut off, because the server closed or the version had been replaced for too long.
    pub cut: u64,
    /// Those of `failed` and `broken_off` that a limit ended, by the limit's name.
    pub limits: BTreeMap<String, u64>,
    /// How long requests took, from when they were taken on: the 50th, 90th and 99th percentile.
    pub latency: [Duration; 3],
}
