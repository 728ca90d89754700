//! What a host does about its slots: has each serve what the records say, and notes what came of it.

use std::time::Instant;

use plugsock::Digest;

use super::super::decide::{Wanted, wanted};
use super::super::kept::Known;
use super::super::records::Progress;
use super::super::store::Store;
use super::job::{Job, NotTaken, Outcome, Work};
use super::subject::{Subject, Taking};
use super::{Member, pause};
use crate::cli::registry::jittered;

/// Where a slot of this host is.
#[derive(Default)]
pub(super) struct State {
    /// Something is being fetched or swapped to.
    pub(super) is_busy: bool,
    /// The roll-out that it has heeded.
    pub(super) generation: u64,
    /// What it does not take in which roll-out, and why.
    pub(super) refused: Option<(u64, Digest, String)>,
    failures: u32,
    retry: Option<Instant>,
}

impl State {
    pub(super) fn has_refused(&self, generation: u64, digest: Digest) -> bool {
        self.refused.as_ref().is_some_and(|(of, refused, _)| (*of, *refused) == (generation, digest))
    }
}

impl Member {
    pub(super) fn heed(&mut self, name: &str, subject: Subject, store: Option<&Store>) {
        let nothing = Known::default();
        let known = self.slots.get(name).map_or(&nothing, |slot| &slot.known);
        let (host, labels) = (&self.membership.host, &self.membership.labels);
        let state = self.states.entry(name.to_owned()).or_insert_with(|| {
            self.kept.keep_known(name, known);
            State::default()
        });
        if state.is_busy {
            return;
        }
        let generation = known.desired.as_ref().map_or(state.generation, |desired| desired.generation);
        let wish = known
            .desired
            .as_ref()
            .map_or(Wanted::Own, |desired| wanted(desired, known.rollout.as_ref(), host, labels));
        let is_there = match wish {
            Wanted::Own => subject.is_own(),
            Wanted::Version(version) => subject.digest() == version.digest.to_string(),
        };
        if is_there {
            subject.hold(wish != Wanted::Own);
            (state.failures, state.retry) = (0, None);
            self.heeded(name, generation);
            return;
        }
        let is_running = known.rollout.as_ref().is_some_and(|rollout| rollout.progress == Progress::Running);
        if let (Wanted::Version(version), Subject::Program(program)) = (wish, &subject)
            && is_running
            && program.has_not_stayed(generation, version.digest)
        {
            let reason = "it took over, and this host was then started anew with another".to_owned();
            state.refused = Some((generation, version.digest, reason));
        }
        if let Wanted::Version(version) = wish
            && state.has_refused(generation, version.digest)
        {
            self.heeded(name, generation);
            return;
        }
        if state.retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        state.is_busy = true;
        state.retry = None;
        let outcome = |digest| Outcome { slot: name.to_owned(), generation, digest, taken: Ok(()) };
        match (wish, &known.desired) {
            (Wanted::Version(version), Some(desired)) => {
                // What was rolled out before is no trial.
                let is_trial = version.digest == desired.target.digest;
                let probe = desired.probe.clone().filter(|_| is_trial).map(Into::into);
                let is_forced = desired.is_forced || !is_trial;
                let (version, outcome) = (version.clone(), outcome(Some(version.digest)));
                self.take(subject, Taking { generation, version, is_forced, probe }, outcome, store);
            }
            _ => self.begin(subject.back(&self.places.registry), outcome(None)),
        }
    }

    /// Notes that a slot is where a roll-out wants it, or will not be.
    fn heeded(&mut self, name: &str, generation: u64) {
        let Some(state) = self.states.get_mut(name) else { return };
        if state.generation != generation {
            state.generation = generation;
            self.report_at = Instant::now();
        }
        self.complaints.about(&format!("slot {name}"), None);
    }

    fn begin(&self, work: Work, outcome: Outcome) {
        let _ = self.jobs.send(Job { work, outcome, ended: self.ended.clone() });
    }

    /// Has a version's bytes brought here, if they are not, and takes it.
    fn take(&self, subject: Subject, taking: Taking, outcome: Outcome, store: Option<&Store>) {
        let places = self.places.clone();
        let brought = subject.brought(&places, &taking.version);
        if brought.is_some() || subject.is_elsewhere(&taking.version) {
            return self.begin(subject.take(taking, brought, places), outcome);
        }
        let digest = taking.version.digest;
        let Some(store) = store else {
            let reason = format!("{digest} is not kept here, and NATS is away");
            let _ = self.ended.send(Outcome { taken: Err(NotTaken::NotYet(reason)), ..outcome });
            return;
        };
        let fetching = store.fetch(digest, subject.most());
        let (jobs, ended) = (self.jobs.clone(), self.ended.clone());
        tokio::spawn(async move {
            match fetching.await {
                Ok(bytes) => {
                    let work = subject.take(taking, Some((bytes, Vec::new())), places);
                    let _ = jobs.send(Job { work, outcome, ended });
                }
                Err(reason) => {
                    let _ = ended.send(Outcome { taken: Err(NotTaken::NotYet(reason)), ..outcome });
                }
            }
        });
    }

    pub(super) fn end(&mut self, Outcome { slot, generation, digest, taken }: Outcome) {
        let Some(state) = self.states.get_mut(&slot) else { return };
        state.is_busy = false;
        match taken {
            Ok(()) => (state.failures, state.retry) = (0, None),
            Err(NotTaken::Refused(reason)) if let Some(digest) = digest => {
                tracing::error!(slot, "roll-out {generation} is not taken: {reason}");
                state.refused = Some((generation, digest, reason));
            }
            Err(NotTaken::NotYet(reason) | NotTaken::Refused(reason)) => {
                state.retry = Some(Instant::now() + jittered(pause(state.failures)));
                state.failures += 1;
                self.complaints.about(&format!("slot {slot}"), Some(reason));
            }
        }
    }

    /// Looks whether a slot has gone back by itself, and at what nothing tells of either.
    pub(super) fn look(&mut self) {
        self.look_at_names();
        for (name, plug) in self.plugs() {
            let Some(desired) = self.slots.get(&name).and_then(|slot| slot.known.desired.as_ref()) else {
                continue;
            };
            let Some(state) = self.states.get_mut(&name).filter(|state| !state.is_busy) else { continue };
            let (generation, digest) = (desired.generation, desired.target.digest);
            let taken_back =
                plug.slot.refused().into_iter().find(|(refused, _)| *refused == digest.to_string());
            if let Some((_, reason)) = taken_back
                && state.generation == generation
                && !state.has_refused(generation, digest)
                && plug.slot.current().digest() != digest.to_string()
            {
                state.refused = Some((generation, digest, reason));
                self.report_at = Instant::now();
            }
        }
    }
}
