//! What a server said, and how much of it is new.

use std::collections::HashMap;

use plugsock::control::{SlotStatus, Status, VersionStatus};
use serde::Serialize;

pub struct Sample {
    pub status: Status,
    /// Requests a second that ended since the sample before, by slot and generation.
    rates: HashMap<(String, u64), f64>,
}

impl Sample {
    /// Nothing is known of the time before.
    pub fn first(status: Status) -> Self {
        Self { status, rates: HashMap::new() }
    }

    /// What the server says now.
    pub fn next(&self, status: Status) -> Self {
        let seconds = status.uptime_seconds - self.status.uptime_seconds;
        let before: HashMap<_, _> = ended(&self.status).collect();
        let rates = ended(&status).map(|(version, ended)| {
            let new = ended.saturating_sub(before.get(&version).copied().unwrap_or_default());
            (version, if seconds > 0.0 { new as f64 / seconds } else { 0.0 })
        });
        Self { rates: rates.collect(), status }
    }

    pub fn rate(&self, slot: &SlotStatus, version: &VersionStatus) -> f64 {
        self.rates.get(&(slot.name.clone(), version.generation)).copied().unwrap_or_default()
    }

    pub fn total_rate(&self) -> f64 {
        self.rates.values().sum()
    }

    /// All versions, each with its slot.
    pub fn versions(&self) -> impl Iterator<Item = (&SlotStatus, &VersionStatus)> {
        let slots = self.status.slots.iter();
        slots.flat_map(|slot| slot.versions.iter().map(move |version| (slot, version)))
    }
}

/// What a program reads of a sample.
#[derive(Serialize)]
pub struct Report<'a> {
    requests_per_second: f64,
    rates: Vec<Rate<'a>>,
    status: &'a Status,
}

#[derive(Serialize)]
struct Rate<'a> {
    slot: &'a str,
    generation: u64,
    requests_per_second: f64,
}

impl Sample {
    pub fn report(&self) -> Report<'_> {
        let rates = self.versions().map(|(slot, version)| Rate {
            slot: &slot.name,
            generation: version.generation,
            requests_per_second: self.rate(slot, version),
        });
        Report { requests_per_second: self.total_rate(), rates: rates.collect(), status: &self.status }
    }
}

/// How many requests each version has ended.
fn ended(status: &Status) -> impl Iterator<Item = ((String, u64), u64)> {
    status.slots.iter().flat_map(|slot| {
        let versions = slot.versions.iter();
        versions.map(|version| ((slot.name.clone(), version.generation), version.total - version.open))
    })
}
