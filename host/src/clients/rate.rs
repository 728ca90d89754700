//! How often something may happen, and whether it may now.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// So many in a time, and how many of them at once: `10/s`, `100/m:20`.
///
/// ```
/// let rate: plugsock::Rate = "100/m:20".parse()?;
/// assert_eq!(rate.to_string(), "100/m:20");
/// # Ok::<(), plugsock::RateError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    period: Period,
    burst: NonZeroU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
}

/// Why a rate is refused.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no rate: write COUNT/s, COUNT/m or COUNT/h, and :BURST after it if need be, as in 10/s:50")]
pub struct RateError(String);

impl Rate {
    /// So many a second, `burst` of which may come at once.
    pub fn per_second(count: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { count, period: Period::Second, burst }
    }

    fn interval(self) -> Duration {
        self.period.time() / self.count.get()
    }
}

impl Period {
    const ALL: [(&str, Self); 3] = [("s", Self::Second), ("m", Self::Minute), ("h", Self::Hour)];

    fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }
}

/// Without a burst as many as the rate's count may come at once.
impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let parse = || {
            let (count, rest) = text.split_once('/')?;
            let (period, burst) = match rest.split_once(':') {
                Some((period, burst)) => (period, Some(burst)),
                None => (rest, None),
            };
            let (_, period) = Period::ALL.into_iter().find(|(name, _)| *name == period)?;
            let count = count.parse().ok()?;
            let burst = burst.map_or(Some(count), |burst| burst.parse().ok())?;
            Some(Self { count, period, burst })
        };
        parse().ok_or_else(|| RateError(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Period::ALL.into_iter().find(|(_, period)| *period == self.period).map(|(name, _)| name);
        write!(f, "{}/{}", self.count, name.expect("every period has a name"))?;
        if self.burst == self.count { Ok(()) } else { write!(f, ":{}", self.burst) }
    }
}

/// What has been used of a rate: when all of it would be used up, had it been used evenly. (The generic cell
/// rate algorithm: one number is all that is kept.)
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance(Duration);

/// There is no allowance left.
#[derive(Debug)]
pub(crate) struct NoneLeft;

impl Allowance {
    /// Uses one of the rate, at a time `now` that never goes back.
    pub(crate) fn take(&mut self, rate: Rate, now: Duration) -> Result<(), NoneLeft> {
        let interval = rate.interval();
        let used_up = self.0.max(now);
        if used_up - now > interval.saturating_mul(rate.burst.get() - 1) {
            return Err(NoneLeft);
        }
        self.0 = used_up + interval;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate: Rate = "10/s:3".parse().unwrap();
        let mut allowance = Allowance::default();
        let mut passes = |millis| allowance.take(rate, Duration::from_millis(millis)).is_ok();
        assert_eq!([passes(0), passes(0), passes(0), passes(0)], [true, true, true, false]);
        assert_eq!([passes(99), passes(100), passes(100), passes(200)], [false, true, false, true]);
        // What was not used is kept up to the burst, and no longer.
        assert_eq!([(); 4].map(|()| passes(60_000)), [true, true, true, false]);
    }

    #[test]
    fn every_form_is_taken_and_nothing_else() {
        for text in ["1/s", "10/s:50", "100/m", "4294967295/h:1"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "10", "0/s", "10/d", "-1/s", "10/s:", "10/s:0", "10/s:x", "/s", "4294967296/s"] {
            assert!(text.parse::<Rate>().unwrap_err().to_string().contains("write COUNT/s"), "{text}");
        }
    }
}
