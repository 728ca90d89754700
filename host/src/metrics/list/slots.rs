//! What is counted of slots and their versions, as many of them as a slot remembers.

use super::super::family::{Family, Labels, Unit, Value, labelled};
use crate::error::{Cause, Phase};
use crate::slot::{Slot, VersionMeasures, VersionState};
use crate::taken::InstanceOrigin;

struct Version {
    labels: Labels,
    measures: VersionMeasures,
    /// Of new requests.
    share: f64,
}

impl Version {
    /// Of a slot, the newest first.
    fn all(slot: &Slot) -> Vec<Self> {
        let versions = slot.measures();
        let canary = versions.iter().find_map(|version| match version.stats.state {
            VersionState::Canary(share) => Some(f64::from(share.hundredths()) / 10_000.0),
            _ => None,
        });
        let of = |measures: VersionMeasures| {
            let generation = measures.stats.generation.to_string();
            let labels = vec![("slot", slot.name().to_owned()), ("generation", generation)];
            let share = match measures.stats.state {
                VersionState::Serving => 1.0 - canary.unwrap_or(0.0),
                VersionState::Canary(_) => canary.unwrap_or(0.0),
                _ => 0.0,
            };
            Self { labels, measures, share }
        };
        versions.into_iter().map(of).collect()
    }

    fn info(&self) -> Labels {
        let stats = &self.measures.stats;
        let labels = labelled(&self.labels, "handler", stats.handler.clone());
        labelled(&labels, "digest", stats.digest.clone())
    }
}

pub(super) fn of_versions(slots: &[Slot]) -> Vec<Family> {
    let versions: Vec<Version> = slots.iter().flat_map(Version::all).collect();
    let each = |family: Family, value: fn(&Version) -> Value| {
        family.with(versions.iter().map(|version| (version.labels.clone(), value(version))))
    };
    let each_of = |family: Family, label: &'static str, values: fn(&Version) -> Vec<(String, Value)>| {
        family.with(versions.iter().flat_map(|version| {
            let values = values(version).into_iter();
            values.map(move |(name, value)| (labelled(&version.labels, label, name), value))
        }))
    };
    vec![
        each(Family::counter("plugsock_requests", "Requests that have ended"), |version| {
            version.measures.stats.ended.into()
        }),
        each_of(
            Family::counter(
                "plugsock_request_failures",
                "Requests that did not end as they should, by the cause",
            ),
            "cause",
            |version| named(Cause::NAMES, version.measures.counts.causes),
        ),
        each_of(
            Family::counter("plugsock_request_limits", "Requests that a limit has ended, by the limit"),
            "limit",
            |version| {
                let limits = &version.measures.stats.limits;
                limits.iter().map(|(limit, count)| (limit.clone(), (*count).into())).collect()
            },
        ),
        each(
            Family::times(
                "plugsock_request_duration",
                "How long requests took, from when there was room for them",
            ),
            |version| version.measures.counts.times.clone().into(),
        ),
        each_of(
            Family::times(
                "plugsock_request_phase_duration",
                "How long requests were in one phase of their handler",
            ),
            "phase",
            |version| {
                let phases = Phase::OF_HANDLER.iter().zip(&version.measures.counts.phases);
                // Not all handlers have all of them.
                let seen = phases.filter(|(_, times)| times.count() > 0);
                seen.map(|(phase, times)| (phase.to_string(), times.clone().into())).collect()
            },
        ),
        each_of(
            Family::counter(
                "plugsock_instances",
                "Instances that requests were served by, by where they came from",
            ),
            "origin",
            |version| named(InstanceOrigin::ALL.map(InstanceOrigin::name), version.measures.counts.instances),
        ),
        each(
            Family::gauge("plugsock_version_open_requests", "Requests that a version serves now"),
            |version| version.measures.stats.open.into(),
        ),
        each(
            Family::gauge("plugsock_version_share", "The share of new requests that a version gets")
                .in_unit(Unit::Ratio),
            |version| version.share.into(),
        ),
        Family::gauge("plugsock_version_info", "What a version is")
            .with(versions.iter().map(|version| (version.info(), 1_u64))),
    ]
}

pub(super) fn of_slots(slots: &[Slot]) -> Vec<Family> {
    let labels = |slot: &Slot| vec![("slot", slot.name().to_owned())];
    let counts = |slot: &Slot, label: &'static str, counts: Vec<(&'static str, u64)>| {
        let labels = labels(slot);
        counts.into_iter().map(move |(name, count)| (labelled(&labels, label, name), count))
    };
    vec![
        Family::counter("plugsock_swaps", "Changes of the version that serves, by their kind")
            .with(slots.iter().flat_map(|slot| counts(slot, "kind", slot.swap_counts().changes().collect()))),
        Family::counter("plugsock_swap_failures", "Changes that came to nothing, by the reason").with(
            slots.iter().flat_map(|slot| counts(slot, "reason", slot.swap_counts().failures().collect())),
        ),
        Family::gauge("plugsock_warm_instances", "Instances that are ready ahead of requests")
            .with(slots.iter().map(|slot| (labels(slot), warm_instances(slot)))),
    ]
}

/// Those of the versions that get requests.
fn warm_instances(slot: &Slot) -> usize {
    let (stable, canary) = slot.serving();
    stable.warm_instances() + canary.map_or(0, |canary| canary.warm_instances())
}

fn named<const N: usize>(names: [&str; N], counts: [u64; N]) -> Vec<(String, Value)> {
    names.into_iter().zip(counts).map(|(name, count)| (name.to_owned(), count.into())).collect()
}
