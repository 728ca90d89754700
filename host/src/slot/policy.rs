//! What an operator decides about swaps: which share a canary gets, and when a version is rolled back.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A share of all requests, in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

/// All requests, as a [`Share`] counts them.
const ALL: u64 = 10_000;

impl Share {
    /// The share in hundredths of a percent.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// Whether the next request is one of the share: they are spread evenly.
    pub(super) fn takes_next(self, counter: &AtomicU64) -> bool {
        let share = u64::from(self.0);
        // Modulo all, so that no count is too large to be multiplied.
        let number = counter.fetch_add(1, Relaxed) % ALL;
        (number + 1) * share / ALL > number * share / ALL
    }
}

/// Reads `10%` or `0.5%`.
impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is no share: write a percentage above 0% and up to 100%, as in 10% or 0.5%");
        let percent: f64 = text.strip_suffix('%').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
        let hundredths = (percent * 100.0).round();
        if !(1.0..=ALL as f64).contains(&hundredths) {
            return Err(wrong());
        }
        Ok(Self(hundredths as u16))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

/// When a new version is rolled back by itself: if too large a share of its requests fails soon after the swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackPolicy {
    /// The share of failed requests that is too large.
    pub errors: Share,
    /// For how long after the swap it is looked at.
    pub window: Duration,
    /// How many requests must have ended before the share says anything.
    pub requests: u64,
}

impl RollbackPolicy {
    const REQUESTS: u64 = 10;

    /// Whether so many failures of so many requests are too many.
    pub fn is_passed(&self, failed: u64, ended: u64) -> bool {
        ended >= self.requests
            && u128::from(failed) * u128::from(ALL) > u128::from(ended) * u128::from(self.errors.0)
    }
}

/// Reads `errors>5%/30s`, or `errors>5%/30s/100` to judge by 100 requests at least.
impl FromStr for RollbackPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: String| {
            format!("{what}; write errors>SHARE/TIME or errors>SHARE/TIME/REQUESTS, as in errors>5%/30s")
        };
        let rest = text
            .strip_prefix("errors>")
            .ok_or_else(|| wrong(format!("'{text}' does not begin with errors>")))?;
        let mut parts = rest.split('/');
        let errors = parts.next().unwrap_or_default().parse().map_err(wrong)?;
        let window = parts.next().ok_or_else(|| wrong("the time is missing".to_owned()))?;
        let window =
            humantime::parse_duration(window).map_err(|error| wrong(format!("'{window}': {error}")))?;
        let requests = match parts.next() {
            None => Self::REQUESTS,
            Some(count) => match count.parse() {
                Ok(count) if count > 0 => count,
                _ => return Err(wrong(format!("'{count}' is no number of requests"))),
            },
        };
        match parts.next() {
            None => Ok(Self { errors, window, requests }),
            Some(_) => Err(wrong(format!("'{text}' has too many parts"))),
        }
    }
}

impl fmt::Display for RollbackPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errors>{}/{}/{}", self.errors, humantime::format_duration(self.window), self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly_and_exact() {
        for (text, expected) in [("10%", 1000), ("0.5%", 50), ("33.33%", 3333), ("100%", 10_000)] {
            let share: Share = text.parse().unwrap();
            let counter = AtomicU64::new(u64::MAX - 4999);
            let taken = (0..ALL).filter(|_| share.takes_next(&counter)).count();
            assert!(taken.abs_diff(expected) <= 1, "{text}: {taken}");
            assert_eq!(share.to_string(), text);
        }
        for wrong in ["", "%", "10", "0%", "0.001%", "101%", "-1%", "NaN%", "inf%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rollback_policy_is_read_and_written() {
        let policy: RollbackPolicy = "errors>5%/30s".parse().unwrap();
        assert_eq!(policy.to_string(), "errors>5%/30s/10");
        assert!(!policy.is_passed(9, 9) && !policy.is_passed(5, 100) && policy.is_passed(6, 100));
        for wrong in
            ["", "errors", "errors>5/30s", "errors>5%", "errors>5%/x", "errors>5%/1s/0", "errors>5%/1s/1/1"]
        {
            let error = wrong.parse::<RollbackPolicy>().unwrap_err();
            assert!(error.contains("errors>5%/30s"), "{error}");
        }
    }
}
