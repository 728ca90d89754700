//! What a fleet looks like: its records and what its hosts say, put together, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use plugsock::control::RolloutStatus;

use super::decide::{Hosts, count_allowed, of};
use super::driver::LeaseRecord;
use super::records::{Desired, HostStatus, Labels, PROGRAM, Progress, Rollout, SlotStatus, parse};
use super::store::{Change, Store};
use crate::cli::columns::Columns;
use crate::cli::ctl::tables::{DIGEST_LENGTH, name, printable};

/// All that is known of groups.
#[derive(Default)]
pub struct View(BTreeMap<String, GroupView>);

#[derive(Default)]
pub struct GroupView {
    slots: BTreeMap<String, (Option<Desired>, Option<Rollout>)>,
    pub hosts: Vec<HostStatus>,
    /// Hosts that have the name of another, and do not count.
    namesakes: Vec<HostStatus>,
    driver: Option<String>,
    /// Records that nobody heeds, and why.
    malformed: Vec<String>,
}

/// How a slot's roll-out stands.
#[derive(Serialize)]
pub struct Summary {
    group: String,
    slot: String,
    /// Without it nothing was ever rolled out, and each host serves its own.
    generation: Option<u64>,
    state: &'static str,
    /// From 1.
    stage: usize,
    stages: Vec<String>,
    handler: String,
    digest: String,
    only: Labels,
    /// How many hosts serve it, and how many it is for.
    taken: usize,
    eligible: usize,
    /// Requests that those have served with it.
    ended: u64,
    failed: u64,
    /// Why it failed.
    reason: Option<String>,
    driver: Option<String>,
    /// What is wrong, by host.
    problems: Vec<String>,
}

impl View {
    pub async fn of_group(store: &Store, group: &str) -> anyhow::Result<GroupView> {
        Ok(Self::of(store, Some(group)).await?.0.remove(group).unwrap_or_default())
    }

    pub async fn of(store: &Store, group: Option<&str>) -> anyhow::Result<Self> {
        let mut view = Self::default();
        let pattern = format!("*.{}.>", group.unwrap_or("*"));
        for change in store.all(&store.records, &pattern).await.map_err(anyhow::Error::msg)? {
            view.add(change);
        }
        for change in store.all(&store.hosts, ">").await.map_err(anyhow::Error::msg)? {
            view.add(change);
        }
        view.0.retain(|name, _| group.is_none_or(|group| group == name));
        view.0.values_mut().for_each(|group| group.hosts.sort_by(|one, other| one.host.cmp(&other.host)));
        Ok(view)
    }

    fn add(&mut self, Change { key, value, .. }: Change) {
        let mut parts = key.splitn(3, '.');
        let (kind, group, name) =
            (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Some(value) = value else { return };
        let view = self.0.entry(group.to_owned()).or_default();
        let added =
            match kind {
                Some("desired") => parse(&value)
                    .map(|desired| view.slots.entry(name.to_owned()).or_default().0 = Some(desired)),
                Some("rollout") => parse(&value)
                    .map(|rollout| view.slots.entry(name.to_owned()).or_default().1 = Some(rollout)),
                Some("status") => parse(&value).map(|status: HostStatus| match status.host == name {
                    true => view.hosts.push(status),
                    false => view.namesakes.push(status),
                }),
                Some("lease") => parse(&value).map(|lease: LeaseRecord| view.driver = Some(lease.host)),
                _ => Ok(()),
            };
        if let Err(reason) = added {
            view.malformed.push(format!("{key}: {reason}"));
        }
    }

    pub fn all_hosts(&self) -> impl Iterator<Item = &HostStatus> {
        self.0.values().flat_map(|group| group.hosts.iter().chain(&group.namesakes))
    }

    pub fn rollouts(&self) -> Vec<Summary> {
        self.0.iter().flat_map(|(name, group)| group.summaries(name)).collect()
    }

    pub fn status_table(&self, width: Option<usize>) -> String {
        const COLUMNS: [&str; 10] =
            ["GROUP", "SLOT", "GEN", "STATE", "STAGE", "HANDLER", "DIGEST", "HOSTS", "TOTAL", "FAILED"];
        let summaries = self.rollouts();
        let rows = summaries.iter().map(|summary| {
            let stage = summary.stages.get(summary.stage.wrapping_sub(1));
            let count = summary.stages.len();
            vec![
                summary.group.clone(),
                summary.slot.clone(),
                summary.generation.map_or("-".to_owned(), |generation| generation.to_string()),
                summary.state.to_owned(),
                stage.map_or("-".to_owned(), |stage| format!("{}/{count} {stage}", summary.stage)),
                summary.handler.clone(),
                summary.digest.chars().take(DIGEST_LENGTH).collect(),
                format!("{}/{}", summary.taken, summary.eligible),
                summary.ended.to_string(),
                summary.failed.to_string(),
            ]
        });
        let mut text = table(&COLUMNS, rows, 7, width);
        for summary in &summaries {
            let which = format!("{}/{}", summary.group, summary.slot);
            let reason = summary.reason.iter().map(|reason| format!("{which} has failed: {reason}"));
            let only = summary.only.iter().map(|(label, value)| format!("{which} is for {label}={value}"));
            for remark in only.chain(reason) {
                let _ = writeln!(text, "{}", printable(remark));
            }
        }
        for (name, group) in &self.0 {
            let malformed = group.malformed.iter().cloned();
            let problems = group.hosts.iter().chain(&group.namesakes).flat_map(|host| {
                host.problems.iter().map(move |problem| format!("{name}/{}: {problem}", host.host))
            });
            let refused = group.hosts.iter().flat_map(|host| refusals(name, host));
            for remark in malformed.chain(problems).chain(refused).collect::<BTreeSet<_>>() {
                let _ = writeln!(text, "{}", printable(remark));
            }
        }
        text
    }

    pub fn hosts_table(&self, width: Option<usize>) -> String {
        const COLUMNS: [&str; 10] =
            ["GROUP", "HOST", "LABELS", "STATE", "SLOT", "DIGEST", "GEN", "OPEN", "TOTAL", "FAILED"];
        let rows = self.all_hosts().flat_map(|host| {
            let labels: Vec<_> =
                host.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(",") };
            let mut slots: Vec<[String; 5]> =
                host.slots.iter().map(|(slot, status)| slot_cells(slot, status)).collect();
            if slots.is_empty() {
                slots.push(["-"; 5].map(str::to_owned));
            }
            slots.into_iter().map(move |[slot, digest, generation, ended, failed]| {
                let (group, name, state) = (host.group.clone(), host.host.clone(), name(&host.state));
                let open = host.open.to_string();
                vec![group, name, labels.clone(), state, slot, digest, generation, open, ended, failed]
            })
        });
        table(&COLUMNS, rows, 6, width)
    }
}

fn slot_cells(slot: &str, status: &SlotStatus) -> [String; 5] {
    let digest = status.digest.chars().take(DIGEST_LENGTH).collect();
    let counts = [status.generation, status.ended, status.failed];
    let [generation, ended, failed] = counts.map(|count| count.to_string());
    [slot.to_owned(), digest, generation, ended, failed]
}

pub fn refusals<'a>(group: &'a str, host: &'a HostStatus) -> impl Iterator<Item = String> + 'a {
    host.slots.iter().filter_map(move |(slot, status)| {
        let reason = status.refused.as_ref()?;
        Some(format!("{group}/{}: {slot} does not take roll-out {}: {reason}", host.host, status.generation))
    })
}

fn table(
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    counts: usize,
    width: Option<usize>,
) -> String {
    let heads = columns.iter().map(|column| (*column).to_owned()).collect();
    let rows = rows.map(|row| row.into_iter().map(printable).collect());
    Columns::new(std::iter::once(heads).chain(rows).collect()).fit(width, counts).lines(width)
}

impl GroupView {
    /// The slots of handlers that anybody speaks of.
    pub fn handler_slots(&self) -> Vec<String> {
        self.slot_names().into_iter().filter(|name| name != PROGRAM).collect()
    }

    /// All slots that anybody speaks of.
    fn slot_names(&self) -> Vec<String> {
        let of_hosts = self.hosts.iter().flat_map(|host| host.slots.keys());
        self.slots.keys().chain(of_hosts).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn summaries(&self, group: &str) -> Vec<Summary> {
        self.slot_names().into_iter().map(|slot| self.summary(group, slot)).collect()
    }

    fn summary(&self, group: &str, slot: String) -> Summary {
        let (desired, rollout) = self
            .slots
            .get(&slot)
            .map_or((None, None), |(desired, rollout)| (desired.as_ref(), rollout.as_ref()));
        let problems = self.hosts.iter().chain(&self.namesakes).flat_map(|host| {
            let problems = host.problems.iter().map(|problem| format!("{}: {problem}", host.host));
            problems.chain(refusals(group, host))
        });
        let problems = problems.chain(self.malformed.iter().cloned()).collect();
        let Some(desired) = desired else {
            let has_it = |host: &&HostStatus| host.slots.contains_key(&slot);
            let eligible = self.hosts.iter().filter(has_it).count();
            return Summary {
                group: group.to_owned(),
                slot,
                generation: None,
                state: "own",
                stage: 0,
                stages: Vec::new(),
                handler: "-".to_owned(),
                digest: "-".to_owned(),
                only: Labels::new(),
                taken: 0,
                eligible,
                ended: 0,
                failed: 0,
                reason: None,
                driver: None,
                problems,
            };
        };
        let hosts = Hosts::eligible(&slot, desired, self.hosts.iter());
        let taken: Vec<_> = hosts.all().filter(|status| status.has(desired)).collect();
        let current = of(desired, rollout);
        Summary {
            group: group.to_owned(),
            generation: Some(desired.generation),
            state: state(desired, current),
            stage: current.map_or(0, |rollout| rollout.stage + 1).min(desired.stages.len()),
            stages: desired.stages.iter().map(ToString::to_string).collect(),
            handler: desired.target.name.clone(),
            digest: desired.target.digest.to_string(),
            only: desired.only.clone(),
            taken: taken.len(),
            eligible: hosts.len(),
            ended: taken.iter().map(|status| status.ended).sum(),
            failed: taken.iter().map(|status| status.failed).sum(),
            reason: current.and_then(|rollout| rollout.reason.clone()),
            driver: self.driver.clone(),
            problems,
            slot,
        }
    }
}

/// In a word.
fn state(desired: &Desired, rollout: Option<&Rollout>) -> &'static str {
    match rollout.map(|rollout| rollout.progress) {
        _ if desired.is_rolled_back => "rolled-back",
        Some(Progress::Complete) => "complete",
        Some(Progress::Failed) => "failed",
        _ if desired.is_paused => "paused",
        Some(Progress::Running) => "running",
        None => "waiting",
    }
}

/// The same for the host's own status.
pub fn rollout_status(slot: &str, desired: &Desired, rollout: Option<&Rollout>) -> RolloutStatus {
    let current = of(desired, rollout);
    RolloutStatus {
        slot: slot.to_owned(),
        generation: desired.generation,
        state: state(desired, current).to_owned(),
        stage: current.map_or(0, |rollout| rollout.stage + 1).min(desired.stages.len()),
        stages: desired.stages.iter().map(ToString::to_string).collect(),
        handler: desired.target.name.clone(),
        digest: desired.target.digest.to_string(),
        allowed: count_allowed(desired, rollout),
        eligible: current.map_or(0, |rollout| rollout.eligible),
        reason: current.and_then(|rollout| rollout.reason.clone()),
    }
}

/// How a roll-out stands, in a line.
pub fn progress_line(group: &str, slot: &str, desired: &Desired, rollout: Option<&Rollout>) -> String {
    let which = format!("{group}/{slot}: roll-out {}", desired.generation);
    let line = match (state(desired, rollout), rollout) {
        ("complete", _) => format!("{which} is complete"),
        ("failed", Some(Rollout { reason: Some(reason), .. })) => format!("{which} has failed: {reason}"),
        (state @ ("running" | "paused"), Some(rollout)) => {
            let stage = desired.stages.get(rollout.stage).map(ToString::to_string).unwrap_or_default();
            let (number, count) = (rollout.stage + 1, desired.stages.len());
            format!(
                "{which} is {state}, in stage {number} of {count}: {stage}, of {} hosts",
                rollout.eligible
            )
        }
        (state, _) => format!("{which} is {state}"),
    };
    printable(line)
}
