//! What was tried, what came of it, and what the host holds before and after.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::harness::{Host, Resources};

/// What idle threads, kept buffers and the like may come to.
const SLACK: Holdings = Holdings { threads: 8, descriptors: 16, processes: 0, memory: 48 << 20 };

/// How long the last bad request may take to end.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Counts, by who asked.
#[derive(Default)]
pub struct Tally {
    pub good: AtomicUsize,
    pub bad: AtomicUsize,
    /// Requests to handlers that do their worst.
    pub worst: AtomicUsize,
    pub swaps: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// A good client has not got its answer.
    pub fn fail(&self, what: String) -> usize {
        let mut failures = self.failures.lock().unwrap();
        failures.push(what);
        failures.len()
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}

/// What a host holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    pub threads: usize,
    pub descriptors: usize,
    /// Itself, those that it started, and those that they started.
    pub processes: usize,
    /// Resident, in bytes.
    pub memory: usize,
}

impl Holdings {
    pub fn of(host: &Host) -> Self {
        let Resources { threads, processes, descriptors } = host.resources();
        Self { threads, descriptors, processes, memory: host.memory() }
    }

    /// Whether `after` is no more than this, but for 5 % of memory and some slack.
    pub fn bounds(&self, after: &Self) -> bool {
        after.threads <= self.threads + SLACK.threads
            && after.descriptors <= self.descriptors + SLACK.descriptors
            && after.processes <= self.processes + SLACK.processes
            && after.memory <= self.memory + self.memory / 20 + SLACK.memory
    }

    /// What the host holds when it is back at this, or at last.
    pub fn wait_for(&self, host: &Host) -> Self {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            let now = Self::of(host);
            if self.bounds(&now) || Instant::now() >= deadline {
                return now;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, descriptors, processes, memory } = self;
        let memory = memory >> 20;
        write!(f, "{threads} threads, {descriptors} descriptors, {processes} processes, {memory} MiB")
    }
}

/// How one host fared.
pub struct Report {
    pub strategy: &'static str,
    pub time: Duration,
    pub before: Holdings,
    pub after: Holdings,
    pub tally: Tally,
    /// Connections and packets that the host turned away.
    pub refused: u64,
    /// By how much good clients wait longer than for a plain echo; shortest first.
    pub longer: Vec<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strategy, time, before, after, tally, refused, longer } = self;
        let count = |count: &AtomicUsize| count.load(SeqCst);
        let failures = tally.failures();
        writeln!(f, "{strategy}, {time:?}:")?;
        writeln!(f, "  good requests  {} served, {} failed", count(&tally.good), failures.len())?;
        writeln!(
            f,
            "  bad clients    {} tries, {refused} connections and packets refused",
            count(&tally.bad)
        )?;
        if let [.., most] = longer[..] {
            let [half, nearly_all] = [50, 99].map(|percent| longer[longer.len() * percent / 100]);
            writeln!(f, "  than plain TCP {half:?} longer (median), {nearly_all:?} (99 %), {most:?} (all)")?;
        }
        writeln!(f, "  bad handlers   {} requests", count(&tally.worst))?;
        writeln!(f, "  swaps          {}", count(&tally.swaps))?;
        writeln!(f, "  before         {before}")?;
        write!(f, "  after          {after}")?;
        failures.iter().take(5).try_for_each(|failure| write!(f, "\n  failed         {failure}"))
    }
}
