//! Driving roll-outs: whoever of a group's hosts holds the lease writes how far they are. All that is known of one is in its
//! record, so that another may go on at any time; and who has lost the lease without noticing writes nothing, since the
//! record is another's then.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::decide::{Hosts, have_taken, is_under_way, next, of};
use super::kept::Known;
use super::records::{FIRST_FORMAT, HostStatus, Progress, parse};
use super::store::{Changes, NotWritten, Store, Trouble};
use crate::cli::registry::jittered;

/// About so many hosts try to get a lease within the time in which it is renewed.
const CANDIDATES: usize = 20;

/// A slot's records.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// As they were when all could be read last.
    pub known: Known,
    /// As far as they can be read now.
    pub heard: Known,
    /// Of the roll-out's now, which is 0 where there is none.
    pub revision: u64,
    /// Those that cannot be read now. Nobody drives a slot by what it was before.
    pub unreadable: BTreeSet<&'static str>,
}

impl Slot {
    /// Takes over what was heard, if that is all of it and another.
    pub fn settle(&mut self) -> bool {
        let is_another = self.unreadable.is_empty() && self.known != self.heard;
        if is_another {
            self.known = self.heard.clone();
        }
        is_another
    }
}

/// Who drives.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub format: u32,
    pub host: String,
}

pub struct Driver {
    group: String,
    host: String,
    lease: Option<Lease>,
    /// When to try to get the lease.
    try_at: Instant,
    /// What hosts say, while it drives.
    reports: Option<Changes>,
    hosts: BTreeMap<String, (HostStatus, Instant)>,
    clocks: BTreeMap<String, Clock>,
}

struct Lease {
    revision: u64,
    renewed: Instant,
}

/// Since when all that are allowed the target have it, by this process's own clock.
#[derive(Clone, Copy, PartialEq)]
struct Clock {
    generation: u64,
    stage: usize,
    since: Instant,
}

impl Driver {
    pub fn new(group: &str, host: &str) -> Self {
        Self {
            group: group.to_owned(),
            host: host.to_owned(),
            lease: None,
            try_at: Instant::now(),
            reports: None,
            hosts: BTreeMap::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// Hears what a host says, while it drives.
    pub async fn hear(&mut self) -> Result<(), String> {
        let Some(reports) = &mut self.reports else { return pending().await };
        let change = reports.next().await?;
        let host = change.key.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
        // Who says what nobody understands is not there.
        match change
            .value
            .and_then(|value| parse::<HostStatus>(&value).ok())
            .filter(|status| status.host == host)
        {
            Some(status) => self.hosts.insert(host, (status, Instant::now())),
            None => self.hosts.remove(&host),
        };
        Ok(())
    }

    /// Does what is to be done now.
    pub async fn drive(&mut self, store: &Store, slots: &BTreeMap<String, Slot>) -> Result<(), Trouble> {
        let is_needed = |slot: &Slot| {
            let is_under_way = |desired| is_under_way(desired, slot.known.rollout.as_ref());
            slot.unreadable.is_empty() && slot.known.desired.as_ref().is_some_and(is_under_way)
        };
        if !slots.values().any(is_needed) {
            return self.stop(store).await;
        }
        if !self.has_lease(store, slots).await? {
            self.let_go();
            return Ok(());
        }
        if self.reports.is_none() {
            self.reports = Some(store.follow(&store.hosts, &format!("status.{}.>", self.group)).await?);
        }
        if !self.reports.as_ref().is_some_and(Changes::is_current) {
            return Ok(());
        }
        let time = store.host_time();
        self.hosts.retain(|_, (_, heard)| heard.elapsed() < time);
        for (name, slot) in slots.iter().filter(|(_, slot)| is_needed(slot)) {
            self.drive_slot(store, name, slot).await?;
        }
        Ok(())
    }

    async fn drive_slot(&mut self, store: &Store, name: &str, slot: &Slot) -> Result<(), Trouble> {
        let Some(desired) = &slot.known.desired else { return Ok(()) };
        let known = slot.known.rollout.as_ref();
        let hosts = Hosts::eligible(name, desired, self.hosts.values().map(|(status, _)| status));
        let running = of(desired, known).filter(|rollout| have_taken(desired, rollout, &hosts));
        let has_stood = match running {
            None => {
                self.clocks.remove(name);
                false
            }
            Some(rollout) => {
                let now =
                    Clock { generation: desired.generation, stage: rollout.stage, since: Instant::now() };
                let clock = self.clocks.entry(name.to_owned()).or_insert(now);
                if (clock.generation, clock.stage) != (now.generation, now.stage) {
                    *clock = now;
                }
                let end = clock.since + desired.gate.window;
                let has_reported = |host: &str| self.hosts.get(host).is_some_and(|(_, heard)| *heard >= end);
                hosts.allowed(desired, rollout).all(|(host, _)| has_reported(host))
            }
        };
        let Some(next) = next(desired, known, &hosts, has_stood) else { return Ok(()) };
        match store
            .write(&store.records, &format!("rollout.{}.{name}", self.group), &next, slot.revision)
            .await
        {
            Ok(_) => {}
            // What the other has written comes by itself.
            Err(NotWritten::Conflict) => return Ok(()),
            Err(NotWritten::Failed(trouble)) => return Err(trouble),
        }
        let (generation, stages) = (next.generation, desired.stages.len());
        match (next.progress, &next.reason) {
            (Progress::Failed, reason) => tracing::warn!(
                slot = name,
                "roll-out {generation} has failed, all go back: {}",
                reason.as_deref().unwrap_or_default()
            ),
            (Progress::Complete, _) => tracing::info!(slot = name, "roll-out {generation} is complete"),
            (Progress::Running, _) => tracing::info!(
                slot = name,
                "roll-out {generation} is in stage {} of {stages}, of {} hosts",
                next.stage + 1,
                next.eligible
            ),
        }
        Ok(())
    }

    fn key(&self) -> String {
        format!("lease.{}", self.group)
    }

    /// Gets the lease if nobody has it, and renews it in time.
    async fn has_lease(&mut self, store: &Store, slots: &BTreeMap<String, Slot>) -> Result<bool, Trouble> {
        let renew_every = store.host_time() / 3;
        let record = LeaseRecord { format: FIRST_FORMAT, host: self.host.clone() };
        if let Some(lease) = &mut self.lease {
            if lease.renewed.elapsed() < renew_every {
                return Ok(true);
            }
            let renewed =
                store.write(&store.hosts, &format!("lease.{}", self.group), &record, lease.revision).await;
            return match renewed {
                Ok(revision) => {
                    *lease = Lease { revision, renewed: Instant::now() };
                    Ok(true)
                }
                Err(NotWritten::Conflict) => {
                    store.learn_host_time().await?;
                    Ok(false)
                }
                Err(NotWritten::Failed(trouble)) => Err(trouble),
            };
        }
        if Instant::now() < self.try_at {
            return Ok(false);
        }
        // The more hosts there are, the less often each tries.
        let eligible = slots
            .values()
            .filter_map(|slot| slot.known.rollout.as_ref())
            .map(|rollout| rollout.eligible)
            .max();
        let share = (eligible.unwrap_or_default() / CANDIDATES).max(1);
        self.try_at =
            Instant::now() + jittered(renew_every.saturating_mul(u32::try_from(share).unwrap_or(u32::MAX)));
        match store.create(&store.hosts, &self.key(), &record).await {
            Ok(revision) => {
                tracing::info!("this host drives the roll-outs of group {}", self.group);
                self.lease = Some(Lease { revision, renewed: Instant::now() });
                Ok(true)
            }
            Err(NotWritten::Conflict) => Ok(false),
            Err(NotWritten::Failed(trouble)) => Err(trouble),
        }
    }

    /// Leaves it to others for a while, who may do what this host may not.
    pub fn stand_back(&mut self, store: &Store) {
        self.let_go();
        self.try_at = Instant::now() + jittered(store.host_time() * 3);
    }

    /// Gives the lease back when there is nothing to drive.
    pub async fn stop(&mut self, store: &Store) -> Result<(), Trouble> {
        let lease = self.lease.take();
        self.let_go();
        self.try_at = Instant::now() + jittered(Duration::from_millis(200));
        match lease {
            Some(lease) => store.remove(&store.hosts, &self.key(), Some(lease.revision)).await,
            None => Ok(()),
        }
    }

    fn let_go(&mut self) {
        self.lease = None;
        self.reports = None;
        self.hosts.clear();
        self.clocks.clear();
    }
}
