//! A host's part in a fleet, on a thread of its own: it follows what its group is to serve, swaps to it as any other swap is
//! done, and says what it serves. Without NATS it serves on, and starts from what it has kept.
//!
//! ```text
//!  records ──▶ wanted? ──▶ bytes: kept, object store, registry ──▶ a second thread: `handler`, `program` ──▶ status
//! ```

mod complaints;
mod handler;
mod heed;
mod job;
mod program;
mod report;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::driver::{self, Driver};
use super::kept::Kept;
use super::options::Membership;
use super::part::Part;
use super::records::{self, PROGRAM, check_name, parse};
use super::store::{self, Change, Making, Notice, Store};
use crate::cli::executable::Executable;
use crate::cli::kept;
use crate::cli::registry::{Registry, jittered};
use crate::cli::running::{Plug, ServedAddress, Serving};
use complaints::{Complaints, DRIVING, RECORD, REFUSAL};
use heed::State;
use job::{Job, Outcome};
use program::Program;
use report::Place;
use subject::{Places, Subject};

/// How often it looks at what nothing tells of.
const TICK: Duration = Duration::from_millis(250);

/// The pauses between attempts at what may come to work: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The longest pause between attempts to reach NATS: when it is back its hosts are soon there.
const NATS_PAUSE_MAX: Duration = Duration::from_secs(8);

/// What says how a slot is to be served.
const RECORDS: [&str; 2] = ["desired", "rollout"];

/// As many slots of a group as are heeded.
const SLOTS_MAX: usize = 256;

/// That it is about to have what the fleet says.
pub struct Joined {
    ready: Receiver<()>,
    wait: Duration,
}

impl Joined {
    /// Waits for it, as long as a start may.
    pub fn wait(self) {
        if self.ready.recv_timeout(self.wait).is_err() {
            let wait = self.wait;
            tracing::warn!(
                "the fleet has not said in {wait:?} what to serve: serving what is here, and that when it comes"
            );
        }
    }
}

/// What a process has that joins.
pub struct Joining {
    pub registry: Registry,
    pub kept: Option<kept::Kept>,
    pub executable: Executable,
    /// Whether it takes over from another, and is the same host.
    pub is_successor: bool,
}

/// Joins a fleet with all that is served.
pub fn join(
    membership: Membership,
    serving: &Arc<Mutex<Serving>>,
    joining: Joining,
) -> anyhow::Result<Joined> {
    let Joining { registry, kept, executable, is_successor } = joining;
    let runtime =
        Builder::new_current_thread().enable_all().build().context("no descriptors for the fleet")?;
    let (ready, is_ready) = channel();
    let (jobs, work) = channel::<Job>();
    let (ended, outcomes) = unbounded_channel();
    let wait = membership.wait;
    let host = format!("{}.{}", membership.group, membership.host);
    let keys = &membership.upgrade_keys;
    let program = Program::new(keys, executable, is_successor, kept.as_ref(), &host, serving)?;
    let part = Arc::new(Part::new(is_successor));
    lock(serving).fleet = Some(part.clone());
    let kept = Kept::new(kept, &membership.group, &membership.host);
    let member = Member {
        driver: Driver::new(&membership.group, &membership.host),
        membership,
        serving: Arc::downgrade(serving),
        places: Places { kept: kept.clone(), registry },
        kept,
        program,
        part,
        slots: BTreeMap::new(),
        states: BTreeMap::new(),
        is_informed: false,
        complaints: Complaints::default(),
        is_drained: false,
        has_paused: false,
        jobs,
        ended,
        outcomes,
        ready: Some(ready),
        failures: 0,
        report_at: Instant::now(),
        place: Place::default(),
    };
    thread::Builder::new()
        .name("fleet-swap".to_owned())
        .spawn(move || work.into_iter().for_each(Job::run))?;
    thread::Builder::new().name("fleet".to_owned()).spawn(move || {
        let part = member.part.clone();
        runtime.block_on(member.run());
        part.has_left();
    })?;
    Ok(Joined { ready: is_ready, wait })
}

struct Member {
    membership: Membership,
    serving: Weak<Mutex<Serving>>,
    places: Places,
    kept: Kept,
    /// This program, if the fleet may say another.
    program: Option<Arc<Program>>,
    /// What the rest of it knows of all this.
    part: Arc<Part>,
    /// The group's slots, by their records.
    slots: BTreeMap<String, driver::Slot>,
    /// This host's slots.
    states: BTreeMap<String, State>,
    driver: Driver,
    /// What the fleet says is known, be it from before.
    is_informed: bool,
    complaints: Complaints,
    /// Whether it is to accept nothing.
    is_drained: bool,
    /// Whether that is why it does not.
    has_paused: bool,
    jobs: Sender<Job>,
    ended: UnboundedSender<Outcome>,
    outcomes: UnboundedReceiver<Outcome>,
    ready: Option<Sender<()>>,
    /// Sessions in a row that came to nothing.
    failures: u32,
    report_at: Instant,
    place: Place,
}

impl Member {
    async fn run(mut self) {
        while let Some(reason) = self.session().await.err() {
            self.driver = Driver::new(&self.membership.group, &self.membership.host);
            self.complaints.about_nats(reason);
            if !self.is_informed {
                self.begin_with_kept();
            }
            let until = Instant::now() + jittered(pause(self.failures).min(NATS_PAUSE_MAX));
            self.failures += 1;
            if self.go_on_until(until).await.is_break() {
                return;
            }
        }
    }

    /// Goes by what is known, until it is time to look for NATS again; or for good, when this process ends.
    async fn go_on_until(&mut self, until: Instant) -> ControlFlow<()> {
        let mut tick = tokio::time::interval(TICK);
        while Instant::now() < until {
            if self.is_closing() {
                return ControlFlow::Break(());
            }
            self.look();
            self.heed_all(None);
            self.show(false);
            tokio::select! {
                Some(outcome) = self.outcomes.recv() => self.end(outcome),
                _ = tick.tick() => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// What was known when NATS was last there.
    fn begin_with_kept(&mut self) {
        for name in self.subjects().into_keys() {
            let known = self.kept.known(&name);
            if let Some(desired) = &known.desired {
                tracing::info!(
                    slot = name,
                    "the fleet has last said to serve what roll-out {} says",
                    desired.generation
                );
                self.slots.insert(name, driver::Slot { known, ..Default::default() });
            }
        }
        self.is_drained = self.kept.is_drained();
        self.is_informed = true;
    }

    /// Is part of the fleet until this process ends or the connection does, which is the error.
    async fn session(&mut self) -> Result<(), String> {
        let Membership { reach, group, host, .. } = self.membership.clone();
        let (store, mut notices) =
            store::open(&reach, &format!("plugsock {group}/{host}"), Making::default()).await?;
        self.complaints.forget_refusals();
        let mut changes = store.follow(&store.records, &format!("*.{group}.>")).await?;
        let mut seen = BTreeSet::new();
        let mut is_current = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !is_current && changes.is_current() {
                (is_current, self.is_informed) = (true, true);
                self.forget_all_but(&seen);
                self.settle();
                self.failures = 0;
                if self.complaints.nats_is_there() {
                    tracing::info!("fleet: NATS is there again");
                }
                self.heed_all(Some(&store));
                self.report_at = Instant::now();
            }
            if is_current && Instant::now() >= self.report_at {
                self.report(&store).await;
            }
            tokio::select! {
                change = changes.next() => {
                    let change = change?;
                    seen.insert(change.key.clone());
                    self.learn(change);
                    // Of records that are told one by one some are new and others not yet.
                    if is_current {
                        self.settle();
                        self.heed_all(Some(&store));
                    }
                }
                notice = notices.recv() => match notice {
                    Some(Notice::Refused(reason)) => self.complaints.about(REFUSAL, Some(reason)),
                    Some(Notice::Lost) | None => return Err(format!("the connection to NATS at {} is lost", reach.shown())),
                },
                Some(outcome) = self.outcomes.recv() => {
                    self.end(outcome);
                    if is_current {
                        self.heed_all(Some(&store));
                    }
                    self.report_at = Instant::now();
                }
                heard = self.driver.hear() => heard?,
                _ = tick.tick() => {
                    if self.is_closing() {
                        self.driver.stop(&store).await?;
                        // Of who has taken over it goes on being true.
                        if !self.part.is_handed_over() {
                            self.leave(&store).await;
                        }
                        return Ok(());
                    }
                    self.look();
                    if is_current {
                        self.heed_all(Some(&store));
                        match self.driver.drive(&store, &self.slots).await {
                            Err(trouble) if trouble.is_refusal => {
                                self.driver.stand_back(&store);
                                self.complaints.about(DRIVING, Some(trouble.to_string()));
                            }
                            driven => driven?,
                        }
                    }
                    self.show(is_current);
                }
            }
        }
    }

    fn serving(&self) -> Option<Arc<Mutex<Serving>>> {
        self.serving.upgrade()
    }

    fn is_closing(&self) -> bool {
        self.part.is_handed_over() || self.serving().is_none_or(|serving| lock(&serving).is_closing)
    }

    fn servers(&self) -> Vec<Arc<ServedAddress>> {
        self.serving().map(|serving| lock(&serving).servers.clone()).unwrap_or_default()
    }

    /// Says which of this host's slots no record can name.
    fn look_at_names(&mut self) {
        let plugs = self.serving().map(|serving| lock(&serving).plugs.clone()).unwrap_or_default();
        let wrong = plugs.iter().find_map(|plug| check_name(plug.slot.name()).err());
        let wrong = wrong.map(|wrong| format!("{wrong}; the fleet has no say in it until its handler's file, or its table in the configuration, is called otherwise"));
        self.complaints.about("slots", wrong);
    }

    /// This host's slots that records can name.
    fn plugs(&self) -> BTreeMap<String, Plug> {
        let plugs = self.serving().map(|serving| lock(&serving).plugs.clone()).unwrap_or_default();
        let named = plugs.into_iter().map(|plug| (plug.slot.name().to_owned(), plug));
        named.filter(|(name, _)| check_name(name).is_ok()).collect()
    }

    /// All that records can name.
    fn subjects(&self) -> BTreeMap<String, Subject> {
        let program =
            self.program.iter().map(|program| (PROGRAM.to_owned(), Subject::Program(program.clone())));
        let plugs = self.plugs().into_iter().map(|(name, plug)| (name, Subject::Handler(Box::new(plug))));
        plugs.chain(program).collect()
    }

    /// Takes a record in.
    fn learn(&mut self, Change { key, revision, value }: Change) {
        let mut parts = key.splitn(3, '.');
        let (kind, name) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default().to_owned());
        let learned = match kind {
            "desired" | "rollout" if !self.slots.contains_key(&name) && self.slots.len() >= SLOTS_MAX => {
                Err(format!("there are more than {SLOTS_MAX} slots in the group"))
            }
            "desired" => value.map(|value| parse(&value)).transpose().map(|desired| {
                self.slots.entry(name.clone()).or_default().heard.desired = desired;
            }),
            "rollout" => value.map(|value| parse(&value)).transpose().map(|rollout| {
                let slot = self.slots.entry(name.clone()).or_default();
                // Whoever drives overwrites what was removed as well.
                (slot.heard.rollout, slot.revision) = (rollout, revision);
            }),
            "drain" if name == self.membership.host => value
                .map(|value| parse::<records::Drain>(&value))
                .transpose()
                .map(|drain| self.set_drained(drain.is_some())),
            _ => return,
        };
        let has_room = self.slots.len() < SLOTS_MAX || self.slots.contains_key(&name);
        if let Some(kind) = RECORDS.into_iter().find(|record| *record == kind && has_room) {
            let slot = self.slots.entry(name.clone()).or_default();
            match &learned {
                Ok(()) => slot.unreadable.remove(kind),
                Err(_) => slot.unreadable.insert(kind),
            };
        }
        let ignored = |reason| format!("{reason}; it is ignored, and what serves serves on");
        self.complaints.about(&format!("{RECORD}{key}"), learned.err().map(ignored));
        self.report_at = Instant::now();
    }

    /// Goes by what was heard from now on.
    fn settle(&mut self) {
        for (name, slot) in &mut self.slots {
            if slot.settle() && self.states.contains_key(name) {
                self.kept.keep_known(name, &slot.known);
            }
        }
    }

    /// What is not there any more when all was told is gone.
    fn forget_all_but(&mut self, seen: &BTreeSet<String>) {
        let group = &self.membership.group;
        let is_there = |kind: &str, name: &str| seen.contains(&format!("{kind}.{group}.{name}"));
        for (name, slot) in &mut self.slots {
            slot.unreadable.retain(|kind| is_there(kind, name));
            if !is_there("desired", name) {
                slot.heard.desired = None;
            }
            if !is_there("rollout", name) {
                (slot.heard.rollout, slot.revision) = (None, 0);
            }
            if !slot.unreadable.is_empty() && slot.known.desired.is_none() {
                slot.known = self.kept.known(name);
            }
        }
        self.complaints.forget_records(|key| seen.contains(key));
        let is_drained = self.is_drained && is_there("drain", &self.membership.host);
        self.set_drained(is_drained);
    }

    fn set_drained(&mut self, is_drained: bool) {
        self.is_drained = is_drained;
        self.kept.keep_drained(is_drained);
    }

    /// Sees to it that each slot serves what it is to, and that servers accept only if they are to.
    fn heed_all(&mut self, store: Option<&Store>) {
        if !self.is_informed || self.part.is_handed_over() {
            return;
        }
        // First of all it serves.
        let is_serving = self.ready.is_none();
        for (name, subject) in self.subjects().into_iter().filter(|(name, _)| is_serving || name != PROGRAM) {
            self.heed(&name, subject, store);
        }
        for bound in self.servers() {
            match (self.is_drained, self.has_paused) {
                (true, _) if !bound.server.is_paused() => bound.server.pause(),
                (false, true) => bound.server.resume(),
                _ => {}
            }
        }
        if self.has_paused != self.is_drained {
            tracing::info!(
                "the fleet says to {}",
                if self.is_drained { "accept nothing" } else { "accept again" }
            );
            self.has_paused = self.is_drained;
            self.report_at = Instant::now();
        }
        let is_busy = self.states.values().any(|state| state.is_busy);
        if !is_busy && let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
    }
}

/// Twice as long for each failure.
fn pause(failures: u32) -> Duration {
    PAUSES.0.saturating_mul(1 << failures.min(16)).min(PAUSES.1)
}

fn lock(serving: &Mutex<Serving>) -> MutexGuard<'_, Serving> {
    serving.lock().unwrap_or_else(PoisonError::into_inner)
}
