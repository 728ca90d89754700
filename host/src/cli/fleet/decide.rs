//! What a roll-out comes to next, as functions of records alone: no connection, no clock.

use std::collections::BTreeMap;

use super::records::{
    Desired, FIRST_FORMAT, HostStatus, Labels, Progress, Refused, Rollout, SlotStatus, Stage, Version, covers,
};

/// As many refused components as a slot remembers.
const REFUSED_MAX: usize = 64;

/// What a slot of one host is to serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted<'a> {
    Version(&'a Version),
    /// What the host was started with.
    Own,
}

/// What a slot is to serve on a host, by its name and its labels.
pub fn wanted<'a>(
    desired: &'a Desired,
    rollout: Option<&Rollout>,
    host: &str,
    labels: &Labels,
) -> Wanted<'a> {
    let takes = covers(&desired.only, labels)
        && !desired.is_rolled_back
        && of(desired, rollout).is_some_and(|rollout| match rollout.progress {
            Progress::Complete => true,
            Progress::Failed => false,
            Progress::Running => is_allowed(desired, rollout, host),
        });
    if takes {
        return Wanted::Version(&desired.target);
    }
    let base = desired.base.iter().find(|layer| covers(&layer.only, labels));
    base.map_or(Wanted::Own, |layer| Wanted::Version(&layer.version))
}

/// The record of this roll-out, and not of one before.
pub fn of<'a>(desired: &Desired, rollout: Option<&'a Rollout>) -> Option<&'a Rollout> {
    rollout.filter(|rollout| rollout.generation == desired.generation)
}

/// Whether somebody has to drive it.
pub fn is_under_way(desired: &Desired, rollout: Option<&Rollout>) -> bool {
    let is_running = |rollout: &Rollout| rollout.progress == Progress::Running;
    !desired.is_rolled_back && of(desired, rollout).is_none_or(is_running)
}

fn stage(desired: &Desired, number: usize) -> Option<Stage> {
    desired.stages.get(number).copied()
}

/// Beyond what is listed it is all.
fn is_last(desired: &Desired, number: usize) -> bool {
    stage(desired, number).is_none_or(Stage::is_all)
}

fn is_allowed(desired: &Desired, rollout: &Rollout, host: &str) -> bool {
    is_last(desired, rollout.stage) || rollout.allowed.contains(host)
}

/// How many hosts may have the target.
pub fn count_allowed(desired: &Desired, rollout: Option<&Rollout>) -> usize {
    let Some(rollout) = of(desired, rollout).filter(|_| !desired.is_rolled_back) else { return 0 };
    match rollout.progress {
        Progress::Failed => 0,
        Progress::Running if !is_last(desired, rollout.stage) => rollout.allowed.len(),
        Progress::Running | Progress::Complete => rollout.eligible,
    }
}

/// The hosts that are there and have the slot, by their names.
pub struct Hosts<'a>(BTreeMap<&'a str, (&'a HostStatus, &'a SlotStatus)>);

impl<'a> Hosts<'a> {
    /// Those that a roll-out may come to.
    pub fn eligible(slot: &str, desired: &Desired, hosts: impl Iterator<Item = &'a HostStatus>) -> Self {
        let eligible = hosts.filter(|host| covers(&desired.only, &host.labels));
        Self(eligible.filter_map(|host| Some((host.host.as_str(), (host, host.slots.get(slot)?)))).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn all(&self) -> impl Iterator<Item = &'a SlotStatus> {
        self.0.values().map(|(_, slot)| *slot)
    }

    /// Those that may have the target.
    pub fn allowed(
        &self,
        desired: &Desired,
        rollout: &Rollout,
    ) -> impl Iterator<Item = (&'a str, &'a SlotStatus)> {
        let allowed = self.0.iter().filter(|(name, _)| is_allowed(desired, rollout, name));
        allowed.map(|(name, (_, slot))| (*name, *slot)).collect::<Vec<_>>().into_iter()
    }

    /// In the order in which they get it: who accepts requests before who does not, and then by their names.
    fn order(&self) -> Vec<&'a str> {
        let mut names: Vec<_> = self.0.iter().map(|(name, (host, _))| (host.state as u8, *name)).collect();
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

/// Whether all that may have the target have it.
pub fn have_taken(desired: &Desired, rollout: &Rollout, hosts: &Hosts<'_>) -> bool {
    let mut allowed = hosts.allowed(desired, rollout).peekable();
    allowed.peek().is_some() && allowed.all(|(_, slot)| slot.has(desired))
}

/// The record that is to follow, if another is. `has_stood` says that all have had the target for the gate's time, and have
/// reported since.
pub fn next(
    desired: &Desired,
    known: Option<&Rollout>,
    hosts: &Hosts<'_>,
    has_stood: bool,
) -> Option<Rollout> {
    let Some(current) = of(desired, known) else {
        return Some(begin(desired, known.map_or(&[], |before| &before.refused), hosts));
    };
    if !is_under_way(desired, known) {
        return None;
    }
    if let Some(reason) = failure(desired, current, hosts) {
        return Some(fail(current, &desired.target, reason));
    }
    let mut next = current.clone();
    next.allowed.retain(|name| hosts.0.contains_key(name.as_str()));
    let gone = current.allowed.len() - next.allowed.len();
    next.lost += gone;
    // One host after the other would get what ends them.
    if gone > 0 && next.lost > hosts.len().div_ceil(10).max(2) {
        let reason = format!("{} hosts that were to take it have gone since", next.lost);
        return Some(fail(current, &desired.target, reason));
    }
    if !desired.is_paused {
        if has_stood && gone == 0 {
            match is_last(desired, current.stage) {
                true => next.progress = Progress::Complete,
                false => next.stage += 1,
            }
        }
        next.eligible = hosts.len();
        allow(&mut next, desired, hosts);
    }
    (next != *current).then_some(next)
}

fn begin(desired: &Desired, refused: &[Refused], hosts: &Hosts<'_>) -> Rollout {
    let digest = desired.target.digest;
    let before = refused.iter().find(|refused| refused.digest == digest && !desired.is_forced);
    let mut rollout = Rollout {
        format: FIRST_FORMAT,
        generation: desired.generation,
        progress: Progress::Running,
        stage: 0,
        allowed: Default::default(),
        eligible: hosts.len(),
        lost: 0,
        reason: None,
        refused: refused.to_vec(),
    };
    if let Some(before) = before {
        rollout.progress = Progress::Failed;
        rollout.reason = Some(format!("it was rolled back before: {}", before.reason));
        return rollout;
    }
    rollout.refused.retain(|refused| refused.digest != digest);
    if !desired.is_paused {
        allow(&mut rollout, desired, hosts);
    }
    rollout
}

/// Lets as many hosts take the target as the stage is for; none that may is told otherwise.
fn allow(rollout: &mut Rollout, desired: &Desired, hosts: &Hosts<'_>) {
    if rollout.progress == Progress::Complete || is_last(desired, rollout.stage) {
        rollout.allowed.clear();
        return;
    }
    let count = stage(desired, rollout.stage).map_or(0, |stage| stage.count(hosts.len()));
    for name in hosts.order() {
        if rollout.allowed.len() >= count {
            break;
        }
        rollout.allowed.insert(name.to_owned());
    }
}

/// Why it cannot go on.
fn failure(desired: &Desired, rollout: &Rollout, hosts: &Hosts<'_>) -> Option<String> {
    let (mut failed, mut ended) = (0, 0);
    for (name, slot) in hosts.allowed(desired, rollout) {
        if let Some(reason) = slot.refused.as_ref().filter(|_| slot.generation == desired.generation) {
            return Some(format!("{name} does not take it: {reason}"));
        }
        if slot.has(desired) {
            failed += slot.failed;
            ended += slot.ended;
        }
    }
    let gate = desired.gate;
    gate.is_passed(failed, ended)
        .then(|| format!("{failed} of {ended} requests failed, and {gate} is the most allowed"))
}

fn fail(current: &Rollout, target: &Version, reason: String) -> Rollout {
    let mut failed = current.clone();
    failed.progress = Progress::Failed;
    failed.allowed.clear();
    failed.refused.push(Refused { digest: target.digest, reason: reason.clone() });
    let surplus = failed.refused.len().saturating_sub(REFUSED_MAX);
    failed.refused.drain(..surplus);
    failed.reason = Some(reason);
    failed
}

/// What is below the next roll-out: what this one has brought, if it has come to its end, above what was below it.
pub fn base_of_next(desired: &Desired, rollout: Option<&Rollout>) -> Vec<super::records::Layer> {
    let is_complete = of(desired, rollout).is_some_and(|rollout| rollout.progress == Progress::Complete);
    let mut base = desired.base.clone();
    if is_complete && !desired.is_rolled_back {
        // Whom the new one covers, it hides.
        base.retain(|layer| !desired.only.iter().all(|pair| layer.only.iter().any(|other| pair == other)));
        base.insert(0, super::records::Layer { only: desired.only.clone(), version: desired.target.clone() });
    }
    base
}

#[cfg(test)]
mod tests {
    use plugsock::Digest;
    use plugsock::control::ServerState;

    use super::*;
    use crate::cli::fleet::records::Layer;

    fn version(name: &str) -> Version {
        Version { digest: Digest::of(name.as_bytes()), name: name.to_owned(), source: None, signature: None }
    }

    fn desired(target: &str, stages: &str) -> Desired {
        Desired {
            format: FIRST_FORMAT,
            generation: 7,
            target: version(target),
            stages: stages.split(',').map(|stage| stage.parse().unwrap()).collect(),
            gate: "errors>10%/1s/10".parse().unwrap(),
            only: Labels::new(),
            base: vec![Layer { only: Labels::new(), version: version("old") }],
            is_paused: false,
            is_rolled_back: false,
            is_forced: false,
            probe: None,
        }
    }

    /// A group of hosts that heed what they are told.
    struct Group(Vec<HostStatus>);

    impl Group {
        fn of(count: usize) -> Self {
            let host = |number: usize| HostStatus {
                format: FIRST_FORMAT,
                host: format!("h{number:02}"),
                group: "web".to_owned(),
                instance: String::new(),
                labels: [("zone".to_owned(), if number.is_multiple_of(2) { "a" } else { "b" }.to_owned())]
                    .into(),
                version: "0".to_owned(),
                state: ServerState::Accepting,
                open: 0,
                slots: [("echo".to_owned(), slot("old", 6))].into(),
                problems: Vec::new(),
            };
            Self((0..count).map(host).collect())
        }

        fn hosts(&self, desired: &Desired) -> Hosts<'_> {
            Hosts::eligible("echo", desired, self.0.iter())
        }

        /// Has each host do what it is told; those that then have the target.
        fn heed(&mut self, desired: &Desired, rollout: &Rollout) -> Vec<String> {
            let mut took = Vec::new();
            for host in &mut self.0 {
                let Wanted::Version(version) = wanted(desired, Some(rollout), &host.host, &host.labels)
                else {
                    panic!("there is a base");
                };
                *host.slots.get_mut("echo").unwrap() = slot(&version.name, desired.generation);
                if version.digest == desired.target.digest {
                    took.push(host.host.clone());
                }
            }
            took
        }

        fn slot(&mut self, host: usize) -> &mut SlotStatus {
            self.0[host].slots.get_mut("echo").unwrap()
        }
    }

    fn slot(version: &str, generation: u64) -> SlotStatus {
        let digest = Digest::of(version.as_bytes()).to_string();
        SlotStatus { digest, generation, ended: 0, failed: 0, refused: None }
    }

    #[test]
    fn stages_follow_each_other_to_the_end() {
        let (desired, mut group) = (desired("new", "1,30%,50%,all"), Group::of(10));
        let mut rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        for expected in [1, 3, 5, 10] {
            assert!(!have_taken(&desired, &rollout, &group.hosts(&desired)));
            let took = group.heed(&desired, &rollout);
            assert_eq!(took.len(), expected);
            assert_eq!(took, (0..expected).map(|number| format!("h{number:02}")).collect::<Vec<_>>());
            let hosts = group.hosts(&desired);
            assert!(have_taken(&desired, &rollout, &hosts));
            assert_eq!(count_allowed(&desired, Some(&rollout)), expected);
            // Not before the time has passed.
            assert_eq!(next(&desired, Some(&rollout), &hosts, false), None);
            rollout = next(&desired, Some(&rollout), &hosts, true).unwrap();
        }
        assert_eq!((rollout.progress, rollout.allowed.len()), (Progress::Complete, 0));
        assert_eq!(next(&desired, Some(&rollout), &group.hosts(&desired), true), None);
        assert!(!is_under_way(&desired, Some(&rollout)));
        // Whoever comes later gets it, too.
        assert_eq!(
            wanted(&desired, Some(&rollout), "late", &Labels::new()),
            Wanted::Version(&desired.target)
        );
    }

    #[test]
    fn what_fails_goes_back_and_is_refused() {
        let (desired, mut group) = (desired("new", "1,all"), Group::of(4));
        let rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        assert_eq!(group.heed(&desired, &rollout), ["h00"]);
        // Too few to say anything, and then enough.
        (group.slot(0).ended, group.slot(0).failed) = (9, 9);
        assert_eq!(next(&desired, Some(&rollout), &group.hosts(&desired), false), None);
        (group.slot(0).ended, group.slot(0).failed) = (100, 11);
        let failed = next(&desired, Some(&rollout), &group.hosts(&desired), true).unwrap();
        assert_eq!((failed.progress, count_allowed(&desired, Some(&failed))), (Progress::Failed, 0));
        assert!(failed.reason.as_ref().unwrap().starts_with("11 of 100 requests failed"), "{failed:?}");
        assert_eq!(group.heed(&desired, &failed), Vec::<String>::new());
        // In the next roll-out, too, unless that is forced.
        let mut again = Desired { generation: 8, ..desired.clone() };
        let refused = next(&again, Some(&failed), &group.hosts(&again), false).unwrap();
        assert_eq!(refused.progress, Progress::Failed);
        assert!(refused.reason.unwrap().contains("rolled back before"));
        again.is_forced = true;
        let forced = next(&again, Some(&failed), &group.hosts(&again), false).unwrap();
        assert_eq!((forced.progress, forced.refused.len()), (Progress::Running, 0));
    }

    #[test]
    fn a_host_that_refuses_ends_it() {
        let (desired, mut group) = (desired("new", "2,all"), Group::of(4));
        let rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        // One that is not asked may say what it likes, and so may one of an earlier roll-out.
        for (host, generation, is_heard) in [(3, 7, false), (1, 6, false), (1, 7, true)] {
            let before = group.slot(host).clone();
            *group.slot(host) = SlotStatus { refused: Some("bad".to_owned()), ..slot("old", generation) };
            let next = next(&desired, Some(&rollout), &group.hosts(&desired), false);
            assert_eq!(next.is_some(), is_heard, "{host} {generation}");
            if let Some(next) = next {
                assert_eq!(next.reason.as_deref(), Some("h01 does not take it: bad"));
            }
            *group.slot(host) = before;
        }
    }

    #[test]
    fn hosts_that_go_are_replaced_but_not_for_ever() {
        let (desired, mut group) = (desired("new", "1,all"), Group::of(5));
        let mut rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        for _ in 0..2 {
            group.0.remove(0);
            rollout = next(&desired, Some(&rollout), &group.hosts(&desired), true).unwrap();
            assert_eq!((rollout.stage, rollout.allowed.len()), (0, 1));
            assert!(rollout.allowed.contains(&group.0[0].host));
        }
        group.0.remove(0);
        let failed = next(&desired, Some(&rollout), &group.hosts(&desired), true).unwrap();
        assert_eq!(failed.progress, Progress::Failed);
        assert_eq!(failed.reason.as_deref(), Some("3 hosts that were to take it have gone since"));
    }

    #[test]
    fn a_pause_keeps_it_where_it_is_but_for_failures() {
        let (mut desired, mut group) = (desired("new", "1,all"), Group::of(3));
        let rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        group.heed(&desired, &rollout);
        desired.is_paused = true;
        assert_eq!(next(&desired, Some(&rollout), &group.hosts(&desired), true), None);
        group.slot(0).refused = Some("bad".to_owned());
        let failed = next(&desired, Some(&rollout), &group.hosts(&desired), true).unwrap();
        assert_eq!(failed.progress, Progress::Failed);
    }

    #[test]
    fn those_who_accept_come_first() {
        let (desired, mut group) = (desired("new", "1,all"), Group::of(3));
        group.0[0].state = ServerState::Draining;
        let rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        assert!(rollout.allowed.contains("h01"));
    }

    #[test]
    fn labels_say_whom_it_is_for() {
        let (mut desired, mut group) = (desired("new", "all"), Group::of(4));
        desired.only = [("zone".to_owned(), "b".to_owned())].into();
        let rollout = next(&desired, None, &group.hosts(&desired), false).unwrap();
        assert_eq!(group.heed(&desired, &rollout), ["h01", "h03"]);
        let complete = next(&desired, Some(&rollout), &group.hosts(&desired), true).unwrap();
        assert_eq!(complete.progress, Progress::Complete);
        // The next begins above both, each of which is for some.
        let base = base_of_next(&desired, Some(&complete));
        let after = Desired { generation: 8, only: Labels::new(), base, target: version("after"), ..desired };
        for (zone, expected) in [("a", "old"), ("b", "new")] {
            let labels = [("zone".to_owned(), zone.to_owned())].into();
            let Wanted::Version(version) = wanted(&after, Some(&complete), "h", &labels) else {
                panic!("{zone}")
            };
            assert_eq!(version.name, expected);
        }
        // Where it was for all, nothing below is seen any more; and a failed one leaves all as it was.
        let done = Rollout { generation: 8, ..complete.clone() };
        assert_eq!(base_of_next(&after, Some(&done)).len(), 1);
        let failed = Rollout { progress: Progress::Failed, ..done };
        assert_eq!(base_of_next(&after, Some(&failed)), after.base);
    }

    #[test]
    fn without_a_base_hosts_serve_their_own() {
        let mut desired = desired("new", "1,all");
        desired.base.clear();
        assert_eq!(wanted(&desired, None, "h00", &Labels::new()), Wanted::Own);
    }
}
