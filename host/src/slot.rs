//! Which version of a handler serves, and how another takes its place while requests go on.
//!
//! A request takes its version once, when it is accepted, and keeps it to its end. A swap prepares the new
//! version beside the old one and then publishes it in one pointer store, so that nothing is dropped, cut or
//! paused. Only the slot publishes a version.

mod policy;
mod probe;
mod reaper;
#[cfg(test)]
mod stress;
mod version;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

/// For strategies, which know no sandbox.
pub(crate) use crate::sandbox::Drain;
pub use policy::{RollbackPolicy, Share};
pub use probe::Probe;
pub(crate) use version::{Taken, Version};
pub use version::{VersionState, VersionStats};

use crate::error::{HandlerError, RequestError, SwapError};
use crate::sandbox::{Digest, Handler};
use crate::server_info::ServerInfo;
use reaper::Reaper;
use version::Record;

/// How many versions a slot remembers, for [`Slot::versions`]; only the last two keep their code.
const REMEMBERED: usize = 16;

/// How a slot swaps.
#[derive(Clone, Debug, Default)]
pub struct SlotOptions {
    /// What the slot is called; by default as its first handler, without the file's extension.
    pub name: Option<String>,
    /// What every version must serve before clients get it.
    pub probe: Option<Probe>,
    /// When a new version is rolled back by itself.
    pub rollback_on: Option<RollbackPolicy>,
    /// How long requests may go on after their version was replaced; the rest are cut off.
    pub max_drain: Option<Duration>,
    /// Whether handlers learn that their version was replaced.
    pub drain_signal: bool,
}

/// Where a new version comes from.
#[derive(Debug)]
pub enum Source {
    /// A component's file, loaded by the sandbox that the slot's handler belongs to.
    File(PathBuf),
    /// A handler that is loaded already.
    Handler(Handler),
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<Handler> for Source {
    fn from(handler: Handler) -> Self {
        Self::Handler(handler)
    }
}

/// How one swap is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwapOptions {
    /// Take the component with this digest alone, also where the sandbox is told another's.
    pub digest: Option<Digest>,
    /// Give the new version this share of new requests, until it is promoted or aborted.
    pub canary: Option<Share>,
    /// Take a component that was rolled back before.
    pub force: bool,
}

/// What a swap came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// New requests get the new version, or their share of it.
    Published {
        /// Its generation.
        generation: u64,
        /// Its component's SHA-256, as `sha256:` and 64 hexadecimal digits.
        digest: String,
    },
    /// The component serves already.
    Unchanged {
        /// The generation that serves.
        generation: u64,
        /// Its component's SHA-256.
        digest: String,
    },
}

/// Holds the version of a handler that new requests get. Cloning is cheap and shares it: servers with clones of
/// one slot are swapped together.
#[derive(Clone, Debug)]
pub struct Slot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    options: SlotOptions,
    published: ArcSwap<Published>,
    /// Held while a swap loads and publishes: swaps come one after the other.
    swapping: Mutex<()>,
    /// Numbers the swaps that were asked for.
    last_swap: AtomicU64,
    /// Held to publish.
    state: Mutex<State>,
}

/// What new requests get.
#[derive(Debug)]
struct Published {
    stable: Arc<Version>,
    canary: Option<Canary>,
}

#[derive(Debug)]
struct Canary {
    version: Arc<Version>,
    share: Share,
    /// Requests since it was published.
    counter: AtomicU64,
}

#[derive(Debug)]
struct State {
    last_generation: u64,
    /// The version before this one, still compiled.
    previous: Option<Handler>,
    /// Digests that were rolled back by themselves, and why.
    refused: HashMap<String, String>,
    servers: Vec<Weak<dyn Follower>>,
    /// The versions so far, the newest last.
    records: VecDeque<Arc<Record>>,
    reaper: Option<Reaper>,
}

impl State {
    fn check_not_refused(&self, handler: &Handler) -> Result<(), SwapError> {
        match self.refused.get(handler.digest()) {
            Some(reason) => {
                Err(SwapError::Refused { digest: handler.digest().to_owned(), reason: reason.clone() })
            }
            None => Ok(()),
        }
    }
}

/// A server that serves a slot.
pub(crate) trait Follower: Send + Sync + std::fmt::Debug {
    /// What it is.
    fn info(&self) -> &Arc<ServerInfo>;
    /// Makes ready what a version needs to be served here.
    fn prepare(&self, version: &Version) -> io::Result<()>;
    /// Cuts off what is open of a version; how many requests.
    fn cut(&self, version: &Version) -> usize;
}

/// With the default options.
impl From<Handler> for Slot {
    fn from(handler: Handler) -> Self {
        Self::new(handler, SlotOptions::default()).expect("without a drain signal it takes no descriptor")
    }
}

impl Slot {
    /// A slot whose first version is this handler. Fails if the process is out of descriptors.
    pub fn new(handler: Handler, options: SlotOptions) -> io::Result<Self> {
        Self::beginning_with(1, handler, options)
    }

    /// A slot that continues another's generations.
    pub fn beginning_with(generation: u64, handler: Handler, options: SlotOptions) -> io::Result<Self> {
        let name = options.name.clone().unwrap_or_else(|| stem(handler.name()));
        let stable = Arc::new(Version::new(handler, generation, options.drain_signal)?);
        stable.record.stop_observing();
        let state = State {
            last_generation: generation,
            previous: None,
            refused: HashMap::new(),
            servers: Vec::new(),
            records: [stable.record.clone()].into(),
            reaper: None,
        };
        Ok(Self(Arc::new(Inner {
            name,
            options,
            published: ArcSwap::from_pointee(Published { stable, canary: None }),
            swapping: Mutex::default(),
            last_swap: AtomicU64::new(0),
            state: Mutex::new(state),
        })))
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The handler that new requests get; with a canary, those that are not its share.
    pub fn current(&self) -> Handler {
        self.stable().handler.clone()
    }

    /// The generation of the newest version.
    pub fn last_generation(&self) -> u64 {
        self.state().last_generation
    }

    /// The versions so far, the newest first; as many as are remembered.
    pub fn versions(&self) -> Vec<VersionStats> {
        self.state().records.iter().rev().map(|record| record.stats()).collect()
    }

    /// Puts another version in place: loads it, probes it, and publishes it. The version before serves until
    /// then, and on if anything fails. Of several swaps that wait for one under way, the last is done.
    pub fn swap(&self, source: impl Into<Source>) -> Result<Swapped, SwapError> {
        self.swap_with(source, SwapOptions::default())
    }

    /// Like [`swap`](Self::swap), with options.
    pub fn swap_with(&self, source: impl Into<Source>, options: SwapOptions) -> Result<Swapped, SwapError> {
        let number = self.0.last_swap.fetch_add(1, SeqCst) + 1;
        let _swapping = self.0.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.last_swap.load(SeqCst) != number {
            return Err(SwapError::Superseded);
        }
        let handler = self.load(source.into(), options.digest)?;
        if let Some(generation) = self.serves_already(&handler) {
            let digest = handler.digest().to_owned();
            tracing::info!(slot = self.name(), generation, "not swapped: {digest} serves already");
            return Ok(Swapped::Unchanged { generation, digest });
        }
        if options.force {
            self.state().refused.remove(handler.digest());
        }
        self.state().check_not_refused(&handler)?;
        self.probe(&handler)?;
        let mut state = self.state();
        // It may have been rolled back meanwhile.
        state.check_not_refused(&handler)?;
        match options.canary {
            Some(share) => self.publish_canary(&mut state, handler, share),
            None => self.publish(&mut state, handler, VersionState::Replaced),
        }
    }

    /// Puts the version before in place again, at once: it is still compiled.
    pub fn rollback(&self) -> Result<Swapped, SwapError> {
        let mut state = self.state();
        if self.0.published.load().canary.is_some() {
            return Err(SwapError::CanaryOnTrial);
        }
        let previous = state.previous.clone().ok_or(SwapError::NothingBefore)?;
        self.publish(&mut state, previous, VersionState::RolledBack("asked for".to_owned()))
    }

    /// Gives the canary all new requests.
    pub fn promote(&self) -> Result<Swapped, SwapError> {
        let mut state = self.state();
        let published = self.0.published.load_full();
        let canary = published.canary.as_ref().ok_or(SwapError::NoCanary)?;
        let version = canary.version.clone();
        version.record.set_state(VersionState::Serving);
        Ok(self.put(&mut state, version, VersionState::Replaced))
    }

    /// Takes the canary's share of new requests back.
    pub fn abort(&self) -> Result<Swapped, SwapError> {
        let mut state = self.state();
        self.abort_canary(&mut state, VersionState::Aborted)
    }

    /// Has every version that serves try the probe, if there is one.
    pub fn probe_current(&self) -> Result<(), SwapError> {
        self.probe(&self.current())
    }

    /// The version for a new request.
    pub(crate) fn take(&self) -> Arc<Version> {
        let published = self.0.published.load();
        match &published.canary {
            Some(canary) if canary.share.takes_next(&canary.counter) => canary.version.clone(),
            _ => published.stable.clone(),
        }
    }

    /// The version that serves what is no request: hooks of the server as a whole.
    pub(crate) fn stable(&self) -> Arc<Version> {
        self.0.published.load().stable.clone()
    }

    /// Makes a server ready for the versions that serve, and for those to come.
    pub(crate) fn attach(&self, server: &Arc<dyn Follower>) -> io::Result<()> {
        let mut state = self.state();
        let published = self.0.published.load();
        server.prepare(&published.stable)?;
        if let Some(canary) = &published.canary {
            server.prepare(&canary.version)?;
        }
        state.servers.push(Arc::downgrade(server));
        Ok(())
    }

    /// Counts how a request went, and rolls its version back if too many fail.
    pub(crate) fn count(&self, taken: &Taken, served: &Result<(), RequestError>) {
        taken.count(served);
        let (Err(_), Some(policy)) = (served, &self.0.options.rollback_on) else { return };
        let record = &taken.version.record;
        if record.published.elapsed() > policy.window {
            return;
        }
        let (failed, ended) = {
            let counts = record.counts();
            (counts.failed, counts.ended)
        };
        if policy.is_passed(failed, ended) && record.stop_observing() {
            let reason =
                format!("{failed} of its first {ended} requests failed, and {policy} is the most allowed");
            self.roll_back_failing(taken.version.clone(), reason);
        }
    }

    /// On a thread of its own, since this one serves.
    fn roll_back_failing(&self, failing: Arc<Version>, reason: String) {
        let slot = self.clone();
        let roll_back = move || {
            let mut state = slot.state();
            let published = slot.0.published.load_full();
            let serves = |version: &Arc<Version>| Arc::ptr_eq(version, &failing);
            let is_canary = published.canary.as_ref().is_some_and(|canary| serves(&canary.version));
            let rolled_back = VersionState::RolledBack(reason.clone());
            let done = match state.previous.clone() {
                _ if is_canary => slot.abort_canary(&mut state, rolled_back),
                Some(previous) if serves(&published.stable) => {
                    slot.publish(&mut state, previous, rolled_back)
                }
                // It has been replaced since.
                _ => return,
            };
            match done {
                Ok(_) => {
                    if !is_canary {
                        // To put it back takes more than another rollback.
                        state.previous = None;
                    }
                    state.refused.insert(failing.handler.digest().to_owned(), reason.clone());
                    let (generation, digest) = (failing.info.generation, failing.handler.digest());
                    tracing::warn!(slot = slot.name(), generation, "rolled back {digest}: {reason}");
                }
                Err(error) => tracing::error!(slot = slot.name(), "cannot roll back ({reason}): {error}"),
            }
        };
        let spawned = std::thread::Builder::new().name("rollback".to_owned()).spawn(roll_back);
        if let Err(error) = spawned {
            tracing::error!(slot = self.name(), "cannot roll back: no thread for it: {error}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handler that is loaded already has passed whatever its sandbox requires.
    fn load(&self, source: Source, digest: Option<Digest>) -> Result<Handler, HandlerError> {
        let stable = self.stable();
        let sandbox = stable.handler.sandbox();
        match (source, digest) {
            (Source::Handler(handler), _) => Ok(handler),
            (Source::File(path), None) => sandbox.load(path),
            (Source::File(path), Some(digest)) => sandbox.load_pinned(path, digest),
        }
    }

    /// The generation in which this handler gets all new requests, if it does.
    fn serves_already(&self, handler: &Handler) -> Option<u64> {
        let published = self.0.published.load();
        let stable = &published.stable;
        let serves = published.canary.is_none() && stable.handler.digest() == handler.digest();
        serves.then_some(stable.info.generation)
    }

    /// Probes a handler as each server of the slot would have it serve.
    fn probe(&self, handler: &Handler) -> Result<(), SwapError> {
        let Some(probe) = &self.0.options.probe else { return Ok(()) };
        let servers = self.state().servers.clone();
        servers.iter().filter_map(Weak::upgrade).try_for_each(|server| {
            probe
                .run(handler, server.info())
                .map_err(|reason| SwapError::Probe { server: server.info().name.clone(), reason })
        })
    }

    /// A version of this handler, ready to be served by all servers of the slot.
    fn prepare(&self, state: &mut State, handler: Handler) -> Result<Arc<Version>, SwapError> {
        let generation = state.last_generation + 1;
        let version =
            Version::new(handler, generation, self.0.options.drain_signal).map_err(SwapError::Prepare)?;
        state.servers.retain(|server| server.strong_count() > 0);
        for server in state.servers.iter().filter_map(Weak::upgrade) {
            server.prepare(&version).map_err(SwapError::Prepare)?;
        }
        version.handler.keep_idle(true);
        state.last_generation = generation;
        state.records.push_back(version.record.clone());
        if state.records.len() > REMEMBERED
            && let Some(oldest) = state.records.iter().position(|record| !record.gets_requests())
        {
            state.records.remove(oldest);
        }
        Ok(Arc::new(version))
    }

    fn publish(&self, state: &mut State, handler: Handler, old: VersionState) -> Result<Swapped, SwapError> {
        let version = self.prepare(state, handler)?;
        if let VersionState::RolledBack(_) = old {
            version.record.stop_observing();
        }
        Ok(self.put(state, version, old))
    }

    /// Publishes a version for all new requests; the one before, and a canary, get where they now stand.
    fn put(&self, state: &mut State, stable: Arc<Version>, old: VersionState) -> Swapped {
        let published = self.0.published.swap(Arc::new(Published { stable: stable.clone(), canary: None }));
        state.previous = Some(published.stable.handler.clone());
        self.retire(state, &published.stable, old);
        if let Some(canary) =
            published.canary.as_ref().filter(|canary| !Arc::ptr_eq(&canary.version, &stable))
        {
            self.retire(state, &canary.version, VersionState::Aborted);
        }
        self.say("swapped", &stable)
    }

    fn publish_canary(
        &self,
        state: &mut State,
        handler: Handler,
        share: Share,
    ) -> Result<Swapped, SwapError> {
        let version = self.prepare(state, handler)?;
        version.record.set_state(VersionState::Canary(share));
        let canary = Canary { version: version.clone(), share, counter: AtomicU64::new(0) };
        let stable = self.stable();
        let published = self.0.published.swap(Arc::new(Published { stable, canary: Some(canary) }));
        if let Some(replaced) = &published.canary {
            self.retire(state, &replaced.version, VersionState::Aborted);
        }
        Ok(self.say(&format!("a canary gets {share} of new requests"), &version))
    }

    fn abort_canary(&self, state: &mut State, outcome: VersionState) -> Result<Swapped, SwapError> {
        let published = self.0.published.load_full();
        let canary = published.canary.as_ref().ok_or(SwapError::NoCanary)?;
        let stable = published.stable.clone();
        self.0.published.store(Arc::new(Published { stable: stable.clone(), canary: None }));
        self.retire(state, &canary.version, outcome);
        Ok(self.say("the canary was aborted", &stable))
    }

    /// Lets a version end what it has begun.
    fn retire(&self, state: &mut State, version: &Arc<Version>, outcome: VersionState) {
        version.record.stop_observing();
        version.record.set_state(outcome);
        version.handler.keep_idle(false);
        if let Some(drain) = &version.info.drain {
            drain.begin();
        }
        let Some(time) = self.0.options.max_drain else { return };
        if state.reaper.is_none() {
            match Reaper::start(&self.0) {
                Ok(reaper) => state.reaper = Some(reaper),
                Err(error) => tracing::error!("nothing will cut off what drains for too long: {error}"),
            }
        }
        if let (Some(reaper), Some(at)) = (&state.reaper, Instant::now().checked_add(time)) {
            reaper.watch(version, at);
        }
    }

    fn say(&self, what: &str, version: &Version) -> Swapped {
        let (generation, digest) = (version.info.generation, version.handler.digest().to_owned());
        tracing::info!(slot = self.name(), generation, handler = version.handler.name(), "{what}: {digest}");
        Swapped::Published { generation, digest }
    }
}

impl Inner {
    /// Cuts off what is still open of a version that was replaced.
    fn cut(&self, version: &Version) {
        let servers = self.state.lock().unwrap_or_else(PoisonError::into_inner).servers.clone();
        let cut: usize = servers.iter().filter_map(Weak::upgrade).map(|server| server.cut(version)).sum();
        if cut > 0 {
            let generation = version.info.generation;
            tracing::warn!(slot = self.name, generation, "cut off {cut} requests of a replaced version");
        }
    }
}

/// A file's name without its extension.
fn stem(name: &str) -> String {
    Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
