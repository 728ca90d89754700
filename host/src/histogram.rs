//! How long things took, in buckets that are the same for all: whoever reads them from outside can subtract and add them up.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets, in microseconds. What takes longer has one of its own.
const BOUNDS: [u64; 20] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

fn bucket(time: Duration) -> usize {
    // Rounded up, since a bound is in its bucket.
    let micros = time.as_nanos().div_ceil(1000);
    BOUNDS.partition_point(|bound| u128::from(*bound) < micros)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// For what has a lock anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS],
    /// The sum of all times.
    nanos: u64,
}

/// For what has none.
#[derive(Debug, Default)]
pub(crate) struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        self.counts[bucket(time)] += 1;
        self.nanos = self.nanos.saturating_add(nanos(time));
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// In seconds.
    pub(crate) fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanos).as_secs_f64()
    }

    /// Each bucket's upper bound in seconds, and how many are in it; the last has none.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

impl SharedHistogram {
    pub(crate) fn record(&self, time: Duration) {
        self.counts[bucket(time)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos(time), Relaxed);
    }

    pub(crate) fn so_far(&self) -> Histogram {
        let counts = array::from_fn(|index| self.counts[index].load(Relaxed));
        Histogram { counts, nanos: self.nanos.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_in_its_bucket() {
        let mut histogram = Histogram::default();
        let times =
            [(0, 0), (10_000, 0), (10_001, 1), (25_000, 1), (60_000_000_000, 19), (60_000_000_001, 20)];
        for (nanos, expected) in times {
            assert_eq!(bucket(Duration::from_nanos(nanos)), expected, "{nanos}");
            histogram.record(Duration::from_nanos(nanos));
        }
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 7);
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets[0], (0.00001, 2));
        assert_eq!(buckets[20], (f64::INFINITY, 2));
    }

    #[test]
    fn what_threads_share_counts_the_same() {
        let (mut own, shared) = (Histogram::default(), SharedHistogram::default());
        for micros in [3, 30, 300, 3_000_000] {
            own.record(Duration::from_micros(micros));
            shared.record(Duration::from_micros(micros));
        }
        assert_eq!(shared.so_far(), own);
        assert_eq!(own.sum(), 3.000333);
    }
}
