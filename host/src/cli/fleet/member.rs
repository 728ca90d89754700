//! A host's part in a fleet, on a thread of its own: it follows what its group is to serve, swaps to it as any other swap is
//! done, and says what it serves. Without NATS it serves on, and starts from what it has kept.
//!
//! ```text
//!  records ──▶ wanted? ──▶ bytes: kept, object store, registry ──▶ `Slot::swap_with`, on a second thread ──▶ status
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use plugsock::control::ServerState;
use plugsock::{
    Digest, Fetched, HandlerError, Loader, Sandbox, Source, SwapError, SwapOptions, Swapped, VersionState,
    VersionStats,
};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::decide::{Wanted, wanted};
use super::driver::{self, Driver};
use super::kept::{Kept, Known};
use super::options::Membership;
use super::records::{self, FORMAT, HostStatus, SlotStatus, Version, check_name, parse};
use super::store::{self, Change, Making, Notice, Store};
use crate::cli::kept;
use crate::cli::registry::{OciReference, Registry, jittered};
use crate::cli::running::{Plug, ServedAddress, Serving};

/// How often it looks at what nothing tells of.
const TICK: Duration = Duration::from_millis(250);

/// The pauses between attempts at what may come to work: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What is complained of when it is away.
const NATS: &str = "NATS";

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

/// Joins a fleet with all that is served.
pub fn join(
    membership: Membership,
    serving: &Arc<Mutex<Serving>>,
    registry: Registry,
    kept: Option<kept::Kept>,
) -> anyhow::Result<Joined> {
    let runtime =
        Builder::new_current_thread().enable_all().build().context("no descriptors for the fleet")?;
    let (ready, is_ready) = channel();
    let (jobs, work) = channel::<Job>();
    let (ended, outcomes) = unbounded_channel();
    let wait = membership.wait;
    let kept = Kept::new(kept, &membership.group, &membership.host);
    let member = Member {
        driver: Driver::new(&membership.group, &membership.host),
        membership,
        serving: Arc::downgrade(serving),
        registry,
        kept,
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
        reported: None,
    };
    thread::Builder::new()
        .name("fleet-swap".to_owned())
        .spawn(move || work.into_iter().for_each(Job::run))?;
    thread::Builder::new().name("fleet".to_owned()).spawn(move || runtime.block_on(member.run()))?;
    Ok(Joined { ready: is_ready, wait })
}

struct Member {
    membership: Membership,
    serving: Weak<Mutex<Serving>>,
    registry: Registry,
    kept: Kept,
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
    reported: Option<u64>,
}

/// Where a slot of this host is.
#[derive(Default)]
struct State {
    /// Something is being fetched or swapped to.
    is_busy: bool,
    /// What serves was put there by the fleet.
    is_fleets: bool,
    /// The roll-out that it has heeded.
    generation: u64,
    /// What it does not take in which roll-out, and why.
    refused: Option<(u64, Digest, String)>,
    failures: u32,
    retry: Option<Instant>,
}

impl State {
    fn has_refused(&self, generation: u64, digest: Digest) -> bool {
        self.refused.as_ref().is_some_and(|(of, refused, _)| (*of, *refused) == (generation, digest))
    }
}

/// A swap that is to be done.
struct Job {
    plug: Plug,
    source: Source,
    is_forced: bool,
    outcome: Outcome,
    ended: UnboundedSender<Outcome>,
}

/// What was done for which roll-out, and what came of it. Without a digest it was the host's own handler.
struct Outcome {
    slot: String,
    generation: u64,
    digest: Option<Digest>,
    swapped: Result<(), NotSwapped>,
}

enum NotSwapped {
    /// It may yet be.
    NotYet(String),
    /// It is not to be.
    Refused(String),
}

impl Job {
    fn run(self) {
        let how = SwapOptions { force: self.is_forced, ..SwapOptions::default() };
        let swapped =
            self.plug.slot.swap_with(self.source, how).map(|_: Swapped| ()).map_err(|error| match error {
                SwapError::Handler(HandlerError::Fetch { .. } | HandlerError::Read { .. })
                | SwapError::Superseded
                | SwapError::Prepare(_) => NotSwapped::NotYet(error.to_string()),
                other => NotSwapped::Refused(other.to_string()),
            });
        let _ = self.ended.send(Outcome { swapped, ..self.outcome });
    }
}

/// What is wrong, each said once as long as it lasts.
#[derive(Default)]
struct Complaints(BTreeMap<String, String>);

impl Complaints {
    /// Whose reason changes as often as it is asked.
    fn about_nats(&mut self, reason: String) {
        let reason = format!("{reason}; what is here is served on, and it is tried again");
        match self.0.get_mut(NATS) {
            Some(before) => *before = reason,
            None => self.about(NATS, Some(reason)),
        }
    }

    fn about(&mut self, what: &str, reason: Option<String>) {
        match reason {
            None => drop(self.0.remove(what)),
            Some(reason) if self.0.get(what) == Some(&reason) => {}
            Some(reason) => {
                tracing::warn!("fleet: {what}: {reason}");
                self.0.insert(what.to_owned(), reason);
            }
        }
    }
}

impl Member {
    async fn run(mut self) {
        while let Some(reason) = self.session().await.err() {
            self.driver = Driver::new(&self.membership.group, &self.membership.host);
            self.complaints.about_nats(reason);
            if !self.is_informed {
                self.begin_with_kept();
            }
            let until = Instant::now() + jittered(pause(self.failures));
            self.failures += 1;
            while let Ok(Some(outcome)) = tokio::time::timeout_at(until.into(), self.outcomes.recv()).await {
                self.end(outcome);
                self.heed_all(None);
            }
            if self.is_closing() {
                return;
            }
        }
    }

    /// What was known when NATS was last there.
    fn begin_with_kept(&mut self) {
        for name in self.plugs().into_keys() {
            let known = self.kept.known(&name);
            if let Some(desired) = &known.desired {
                tracing::info!(
                    slot = name,
                    "the fleet has last said to serve what roll-out {} says",
                    desired.generation
                );
                self.slots.insert(name, driver::Slot { known, revision: 0 });
            }
        }
        self.is_informed = true;
        self.heed_all(None);
    }

    /// Is part of the fleet until this process ends or the connection does, which is the error.
    async fn session(&mut self) -> Result<(), String> {
        let Membership { reach, group, host, .. } = self.membership.clone();
        let (store, mut notices) =
            store::open(&reach, &format!("plugsock {group}/{host}"), Making::default()).await?;
        let mut changes = store.follow(&store.records, &format!("*.{group}.>")).await?;
        let mut seen = BTreeSet::new();
        let mut is_current = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.reported = None;
        loop {
            if !is_current && changes.is_current() {
                (is_current, self.is_informed) = (true, true);
                self.forget_all_but(&seen);
                self.failures = 0;
                if self.complaints.0.contains_key(NATS) {
                    tracing::info!("fleet: NATS is there again");
                    self.complaints.about(NATS, None);
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
                    if is_current {
                        self.heed_all(Some(&store));
                    }
                }
                notice = notices.recv() => match notice {
                    Some(Notice::Refused(reason)) => self.complaints.about("NATS does not allow it", Some(reason)),
                    Some(Notice::Lost) | None => return Err(format!("the connection to NATS at {} is lost", reach.shown())),
                },
                Some(outcome) = self.outcomes.recv() => {
                    self.end(outcome);
                    self.heed_all(Some(&store));
                    self.report_at = Instant::now();
                }
                heard = self.driver.hear() => heard?,
                _ = tick.tick() => {
                    if self.is_closing() {
                        self.driver.stop(&store).await?;
                        if let Some(revision) = self.reported {
                            let _ = store.remove(&store.hosts, &self.status_key(), revision).await;
                        }
                        return Ok(());
                    }
                    self.look();
                    self.heed_all(Some(&store));
                    if is_current {
                        self.driver.drive(&store, &self.slots).await?;
                    }
                }
            }
        }
    }

    fn serving(&self) -> Option<Arc<Mutex<Serving>>> {
        self.serving.upgrade()
    }

    fn is_closing(&self) -> bool {
        self.serving().is_none_or(|serving| lock(&serving).is_closing)
    }

    fn servers(&self) -> Vec<Arc<ServedAddress>> {
        self.serving().map(|serving| lock(&serving).servers.clone()).unwrap_or_default()
    }

    /// This host's slots that records can name.
    fn plugs(&self) -> BTreeMap<String, Plug> {
        let plugs = self.serving().map(|serving| lock(&serving).plugs.clone()).unwrap_or_default();
        let named = plugs.into_iter().map(|plug| (plug.slot.name().to_owned(), plug));
        named.filter(|(name, _)| check_name(name).is_ok()).collect()
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
                self.slots.entry(name.clone()).or_default().known.desired = desired;
            }),
            "rollout" => value.map(|value| parse(&value)).transpose().map(|rollout| {
                let slot = self.slots.entry(name.clone()).or_default();
                // Whoever drives overwrites what was removed as well.
                (slot.known.rollout, slot.revision) = (rollout, revision);
            }),
            "drain" if name == self.membership.host => value
                .map(|value| parse::<records::Drain>(&value))
                .transpose()
                .map(|drain| self.is_drained = drain.is_some()),
            _ => return,
        };
        let ignored = |reason| format!("{reason}; it is ignored, and what serves serves on");
        self.complaints.about(&format!("record {key}"), learned.err().map(ignored));
        self.report_at = Instant::now();
        if let (true, Some(slot)) = (self.states.contains_key(&name), self.slots.get(&name)) {
            self.kept.keep_known(&name, &slot.known);
        }
    }

    /// What is not there any more when all was told is gone.
    fn forget_all_but(&mut self, seen: &BTreeSet<String>) {
        let group = &self.membership.group;
        let is_there = |kind: &str, name: &str| seen.contains(&format!("{kind}.{group}.{name}"));
        for (name, slot) in &mut self.slots {
            if !is_there("desired", name) {
                slot.known.desired = None;
            }
            if !is_there("rollout", name) {
                (slot.known.rollout, slot.revision) = (None, 0);
            }
        }
        self.is_drained = self.is_drained && is_there("drain", &self.membership.host);
    }

    /// Sees to it that each slot serves what it is to, and that servers accept only if they are to.
    fn heed_all(&mut self, store: Option<&Store>) {
        if !self.is_informed {
            return;
        }
        for (name, plug) in self.plugs() {
            self.heed(&name, &plug, store);
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

    fn heed(&mut self, name: &str, plug: &Plug, store: Option<&Store>) {
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
            Wanted::Own => !state.is_fleets,
            Wanted::Version(version) => plug.slot.current().digest() == version.digest.to_string(),
        };
        if is_there {
            state.is_fleets = wish != Wanted::Own;
            (state.failures, state.retry) = (0, None);
            self.heeded(name, generation);
            return;
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
        let (digest, is_forced) = match (wish, &known.desired) {
            // What was rolled out before is no trial.
            (Wanted::Version(version), Some(desired)) => {
                (Some(version.digest), desired.is_forced || version.digest != desired.target.digest)
            }
            _ => (None, true),
        };
        let outcome = Outcome { slot: name.to_owned(), generation, digest, swapped: Ok(()) };
        match wish {
            Wanted::Own => {
                let source = plug.planned.source.for_swap(&self.registry);
                self.swap(plug.clone(), source, is_forced, outcome);
            }
            Wanted::Version(version) => self.get(plug.clone(), version.clone(), is_forced, outcome, store),
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

    fn swap(&self, plug: Plug, source: Source, is_forced: bool, outcome: Outcome) {
        let _ = self.jobs.send(Job { plug, source, is_forced, outcome, ended: self.ended.clone() });
    }

    /// Has a version's bytes brought here, if they are not, and swaps to it.
    fn get(&self, plug: Plug, version: Version, is_forced: bool, outcome: Outcome, store: Option<&Store>) {
        let max = plug.sandbox.trust().max_size;
        if let Some(kept) = self.kept.component_of(version.digest, max) {
            return self.swap(plug, self.source(version, Some(kept)), is_forced, outcome);
        }
        if version.source.is_some() {
            return self.swap(plug, self.source(version, None), is_forced, outcome);
        }
        let Some(store) = store else {
            let reason = format!("{} is not kept here, and NATS is away", version.digest);
            let _ = self.ended.send(Outcome { swapped: Err(NotSwapped::NotYet(reason)), ..outcome });
            return;
        };
        let (fetching, jobs, ended) =
            (store.fetch(version.digest, max), self.jobs.clone(), self.ended.clone());
        let (kept, registry) = (self.kept.clone(), self.registry.clone());
        tokio::spawn(async move {
            match fetching.await {
                Ok(bytes) => {
                    let source = source(kept, registry, version, Some((bytes, Vec::new())));
                    let _ = jobs.send(Job { plug, source, is_forced, outcome, ended });
                }
                Err(reason) => {
                    drop(ended.send(Outcome { swapped: Err(NotSwapped::NotYet(reason)), ..outcome }))
                }
            }
        });
    }

    fn source(&self, version: Version, component: Option<Component>) -> Source {
        source(self.kept.clone(), self.registry.clone(), version, component)
    }

    fn end(&mut self, Outcome { slot, generation, digest, swapped }: Outcome) {
        let Some(state) = self.states.get_mut(&slot) else { return };
        state.is_busy = false;
        match swapped {
            Ok(()) => {
                state.is_fleets = digest.is_some();
                (state.failures, state.retry) = (0, None);
            }
            Err(NotSwapped::Refused(reason)) if let Some(digest) = digest => {
                tracing::error!(slot, "roll-out {generation} is not taken: {reason}");
                state.refused = Some((generation, digest, reason));
            }
            Err(NotSwapped::NotYet(reason) | NotSwapped::Refused(reason)) => {
                state.retry = Some(Instant::now() + jittered(pause(state.failures)));
                state.failures += 1;
                self.complaints.about(&format!("slot {slot}"), Some(reason));
            }
        }
    }

    /// Looks whether a slot has gone back by itself.
    fn look(&mut self) {
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

    fn status_key(&self) -> String {
        format!("status.{}.{}", self.membership.group, self.membership.host)
    }

    async fn report(&mut self, store: &Store) {
        let every = store.host_time() / 3;
        let reported = store.put(&store.hosts, &self.status_key(), &self.status()).await;
        self.report_at = Instant::now() + jittered(every);
        self.complaints.about("status", reported.as_ref().err().cloned());
        self.reported = reported.ok();
    }

    fn status(&self) -> HostStatus {
        let servers = self.servers();
        let states = servers.iter().map(|bound| match &bound.server {
            server if server.is_drained() => ServerState::Drained,
            server if server.is_paused() => ServerState::Draining,
            _ => ServerState::Accepting,
        });
        let slots = self.plugs().into_iter().map(|(name, plug)| {
            let serving =
                plug.slot.versions().into_iter().find(|version| version.state == VersionState::Serving);
            let (ended, failed) =
                serving.map_or((0, 0), |VersionStats { ended, failed, .. }| (ended, failed));
            let state = self.states.get(&name);
            let generation = state.map_or(0, |state| state.generation);
            let refused = state.and_then(|state| state.refused.as_ref()).filter(|(of, ..)| *of == generation);
            let refused = refused.map(|(.., reason)| reason.clone());
            let digest = plug.slot.current().digest().to_owned();
            (name, SlotStatus { digest, generation, ended, failed, refused })
        });
        let Membership { group, host, labels, .. } = self.membership.clone();
        HostStatus {
            format: FORMAT,
            host,
            group,
            labels,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: states.min_by_key(|state| *state as u8).unwrap_or(ServerState::Closed),
            open: servers.iter().map(|bound| bound.server.open_requests()).sum(),
            slots: slots.collect(),
            problems: self.complaints.0.iter().map(|(what, reason)| format!("{what}: {reason}")).collect(),
        }
    }
}

/// The bytes of one that is here already, and its signatures beside that of the record.
type Component = (Vec<u8>, Vec<String>);

/// What a swap loads: the component, or else what the registry has, by the same rules as anything else.
fn source(kept: Kept, registry: Registry, version: Version, component: Option<Component>) -> Source {
    Loader::new(move |sandbox, _| {
        let untrusted = |reason| HandlerError::Untrusted { name: version.name.clone(), reason };
        let fetched = fetched(&registry, &version, component, sandbox)?;
        let found = Digest::of(&fetched.bytes);
        if found != version.digest {
            return Err(untrusted(format!("its digest is {found}, and the fleet says {}", version.digest)));
        }
        if !sandbox.trust().public_keys.is_empty() && fetched.signatures.is_empty() {
            return Err(untrusted("a signature is required (--public-key), and it has none: `plugsock fleet push --sign` adds one".to_owned()));
        }
        // Also where there is a --digest: the fleet's word for another does not count.
        let handler = sandbox.load_fetched(&fetched, None)?;
        kept.keep_component(version.digest, &fetched);
        Ok(handler)
    })
    .into()
}

fn fetched(
    registry: &Registry,
    version: &Version,
    component: Option<Component>,
    sandbox: &Sandbox,
) -> Result<Fetched, HandlerError> {
    let unfit = |reason| HandlerError::Unfit { name: version.name.clone(), reason };
    let mut fetched = match (component, &version.source) {
        (Some((bytes, signatures)), source) => Fetched {
            name: version.name.clone(),
            reference: source.clone().unwrap_or_else(|| format!("fleet:{}", version.digest)),
            bytes,
            signatures,
        },
        (None, Some(reference)) => {
            let reference: OciReference = reference.parse().map_err(unfit)?;
            registry.fetch(&reference, sandbox.trust())?
        }
        (None, None) => return Err(unfit("it is nowhere".to_owned())),
    };
    let of_record = version.signature.iter().filter(|signature| !fetched.signatures.contains(signature));
    let of_record: Vec<String> = of_record.cloned().collect();
    fetched.signatures.extend(of_record);
    Ok(fetched)
}

/// Twice as long for each failure.
fn pause(failures: u32) -> Duration {
    PAUSES.0.saturating_mul(1 << failures.min(16)).min(PAUSES.1)
}

fn lock(serving: &Mutex<Serving>) -> MutexGuard<'_, Serving> {
    serving.lock().unwrap_or_else(PoisonError::into_inner)
}
