//! How fast a client must be, at least, while its handler waits for it.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::wait::Patience;

/// How long a client may be waited for in all, unless another time is given.
const GRACE: Duration = Duration::from_secs(20);

/// Bytes a second that a client has to send or take on average, and how long it may be waited for beyond that:
/// `500/s`, `1KiB/s:30s`.
///
/// Only the time counts in which a handler waits for its client; the bytes of both directions do. What a fast
/// client is ahead is kept up to the grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinRate {
    bytes_per_second: NonZeroU64,
    grace: Duration,
}

/// Why a rate is refused.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no rate: write BYTES/s, and :TIME after it for another grace than 20s, as in 1KiB/s:30s")]
pub struct MinRateError(String);

impl MinRate {
    /// A rate with a grace.
    pub fn new(bytes_per_second: NonZeroU64, grace: Duration) -> Self {
        Self { bytes_per_second, grace }
    }

    /// How long so many bytes may take.
    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64)
    }
}

impl FromStr for MinRate {
    type Err = MinRateError;

    fn from_str(text: &str) -> Result<Self, MinRateError> {
        let parse = || {
            let (bytes, rest) = text.split_once('/')?;
            let grace = match rest.strip_prefix('s')? {
                "" => GRACE,
                rest => humantime::parse_duration(rest.strip_prefix(':')?).ok()?,
            };
            let bytes = bytes.parse::<ByteSize>().ok()?.as_u64();
            Some(Self { bytes_per_second: NonZeroU64::new(bytes)?, grace })
        };
        parse().ok_or_else(|| MinRateError(text.to_owned()))
    }
}

impl fmt::Display for MinRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s:{}", self.bytes_per_second, humantime::format_duration(self.grace))
    }
}

/// How much longer one client may be waited for.
#[derive(Debug)]
pub(super) struct Pace {
    rate: MinRate,
    left: Mutex<Duration>,
}

/// A wait for the client, counted until this is dropped.
pub(super) struct Waiting<'a> {
    pace: &'a Pace,
    since: Instant,
}

impl Pace {
    pub(super) fn new(rate: MinRate) -> Self {
        Self { rate, left: Mutex::new(rate.grace) }
    }

    /// The client has sent or taken some bytes.
    pub(super) fn note(&self, bytes: usize) {
        let mut left = self.left();
        *left = left.saturating_add(self.rate.time_for(bytes)).min(self.rate.grace);
    }

    /// A wait begins.
    pub(super) fn wait(&self) -> Waiting<'_> {
        Waiting { pace: self, since: Instant::now() }
    }

    /// It was waited for so long.
    pub(super) fn spend(&self, time: Duration) {
        let mut left = self.left();
        *left = left.saturating_sub(time);
    }

    /// How much longer it may be waited for.
    pub(super) fn may_wait(&self) -> Duration {
        *self.left()
    }

    /// `TimedOut` if the client was too slow.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.left().is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn left(&self) -> MutexGuard<'_, Duration> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// When this wait has to end.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.checked_add(*self.pace.left())
    }

    /// The same patience, or less.
    pub(super) fn limit(&self, patience: Patience) -> Patience {
        let deadline = [patience.deadline, self.deadline()].into_iter().flatten().min();
        Patience { deadline, ..patience }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pace.spend(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_taken_and_nothing_else() {
        for (text, meant) in [("500/s", "500/s:20s"), ("1KiB/s:1m", "1024/s:1m"), ("1/s:100ms", "1/s:100ms")]
        {
            assert_eq!(text.parse::<MinRate>().unwrap().to_string(), meant);
        }
        for text in ["", "500", "0/s", "500/m", "500/s:", "500/s:x", "/s", "-1/s", "500/s30s"] {
            assert!(text.parse::<MinRate>().unwrap_err().to_string().contains("write BYTES/s"), "{text}");
        }
    }

    #[test]
    fn waits_use_the_grace_up_and_bytes_restore_it() {
        let pace = Pace::new("10/s:10s".parse().unwrap());
        *pace.left() = Duration::from_secs(1);
        pace.note(20);
        assert_eq!(*pace.left(), Duration::from_secs(3));
        pace.note(1_000_000);
        assert_eq!(*pace.left(), Duration::from_secs(10));
        drop(Waiting { pace: &pace, since: Instant::now() - Duration::from_secs(11) });
        assert!(pace.check().is_err());
        pace.note(1);
        assert!(pace.check().is_ok());
    }
}
