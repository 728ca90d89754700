//! Whom a server turned away: counted by reason, and said in the log once in a while.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Rate;
use crate::address::SocketAddress;
use crate::events::{EventKind, emit};
use crate::log_limit::LogLimit;

/// How many clients a server has turned away, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// By `allow` and `deny`.
    pub denied: u64,
    /// By `max_connections_per_ip`.
    pub open_per_ip: u64,
    /// By `connection_rate_per_ip`.
    pub rate_per_ip: u64,
    /// By `connection_rate`.
    pub rate: u64,
    /// For the PROXY protocol's header, which was missing, late or wrong.
    pub proxy_header: u64,
    /// Datagrams above `max_packet_size`.
    pub too_large: u64,
    /// By a `verify_request` hook.
    pub verify: u64,
    /// For want of a thread or a process.
    pub no_thread: u64,
}

impl Refused {
    /// Of all reasons together.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }

    /// Each reason's name, and how many it was.
    pub fn by_reason(&self) -> [(&'static str, u64); Refusal::NAMES.len()] {
        let Self { denied, open_per_ip, rate_per_ip, rate, proxy_header, too_large, verify, no_thread } =
            *self;
        let counts = [denied, open_per_ip, rate_per_ip, rate, proxy_header, too_large, verify, no_thread];
        std::array::from_fn(|number| (Refusal::NAMES[number], counts[number]))
    }
}

/// Why one client is turned away.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    Denied,
    OpenPerIp(usize),
    RatePerIp(Rate),
    Rate(Rate),
    /// With what is wrong with the header.
    ProxyHeader(&'static str),
    /// With the datagram's length.
    TooLarge(usize),
    Verify,
    NoThread,
}

/// Counts refusals of the server at an address.
#[derive(Debug)]
pub(crate) struct Refusals {
    address: String,
    counters: [Counter; Refusal::NAMES.len()],
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    log_limit: Mutex<LogLimit>,
}

impl Refusal {
    /// What [`kind`](Self::kind) stands for: the fields of [`Refused`].
    const NAMES: [&str; 8] =
        ["denied", "open_per_ip", "rate_per_ip", "rate", "proxy_header", "too_large", "verify", "no_thread"];

    fn kind(&self) -> usize {
        match self {
            Self::Denied => 0,
            Self::OpenPerIp(_) => 1,
            Self::RatePerIp(_) => 2,
            Self::Rate(_) => 3,
            Self::ProxyHeader(_) => 4,
            Self::TooLarge(_) => 5,
            Self::Verify => 6,
            Self::NoThread => 7,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("its network is not allowed"),
            Self::OpenPerIp(max) => write!(f, "its source has {max} open, the most allowed"),
            Self::RatePerIp(rate) => write!(f, "its source comes more often than {rate}"),
            Self::Rate(rate) => write!(f, "clients come more often than {rate}"),
            Self::ProxyHeader(reason) => write!(f, "PROXY header: {reason}"),
            Self::TooLarge(length) => write!(f, "a datagram of {length} bytes, above max_packet_size"),
            Self::Verify => f.write_str("verify-request says no"),
            Self::NoThread => f.write_str("no thread or process for it"),
        }
    }
}

impl Refusals {
    pub(crate) fn at(address: String) -> Self {
        Self { address, counters: Default::default() }
    }

    /// Counts one, and says so in the log unless it has lately said the same of another.
    pub(crate) fn note(&self, refusal: &Refusal, client: &SocketAddress) {
        self.count(refusal);
        let counter = &self.counters[refusal.kind()];
        counter.log_limit.lock().unwrap_or_else(PoisonError::into_inner).run(|unsaid| match unsaid {
            0 => tracing::warn!(%client, "refused: {refusal}"),
            unsaid => {
                tracing::warn!(%client, "refused: {refusal}; and {unsaid} others since this was last said")
            }
        });
    }

    /// Counts one of which the log says something else.
    pub(crate) fn count(&self, refusal: &Refusal) {
        self.counters[refusal.kind()].count.fetch_add(1, Relaxed);
        emit(|| EventKind::Refused {
            address: self.address.clone(),
            reason: Refusal::NAMES[refusal.kind()].to_owned(),
            count: 1,
        });
    }

    pub(crate) fn so_far(&self) -> Refused {
        let [denied, open_per_ip, rate_per_ip, rate, proxy_header, too_large, verify, no_thread] =
            self.counters.each_ref().map(|counter| counter.count.load(Relaxed));
        Refused { denied, open_per_ip, rate_per_ip, rate, proxy_header, too_large, verify, no_thread }
    }
}
