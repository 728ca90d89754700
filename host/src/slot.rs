//! Which version of a handler serves, and how another takes its place while requests go on.
//!
//! A request takes its version once, when it is accepted, and keeps it to its end. A swap prepares the new
//! version beside the old one and then publishes it in one pointer store, so that nothing is dropped, cut or
//! paused. Only the slot publishes a version.

mod options;
mod policy;
mod probe;
mod publish;
mod ready;
mod record;
mod retire;
mod roll_back;
#[cfg(test)]
mod stress;
mod swaps;
mod version;

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

/// For strategies, which know no sandbox.
pub use options::{Loader, SlotOptions, Source, SwapOptions, Swapped};
pub use policy::{RollbackPolicy, Share};
pub use probe::Probe;
pub use ready::Ready;
pub(crate) use record::VersionMeasures;
pub use record::{VersionState, VersionStats};
pub(crate) use swaps::SwapCounts;
pub(crate) use version::{Version, VersionHold};

use crate::error::{HandlerError, SwapError};
use crate::sandbox::{Digest, Handler};
use crate::server_info::ServerInfo;
use publish::{Published, Publisher};
use record::Records;
use roll_back::Refusals;
use swaps::Change;

/// Holds the version of a handler that new requests get. Cloning is cheap and shares it: servers with clones of
/// one slot are swapped together.
#[derive(Clone, Debug)]
pub struct Slot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    options: ArcSwap<SlotOptions>,
    published: ArcSwap<Published>,
    /// Held while a swap loads and publishes: swaps come one after the other.
    swapping: Mutex<()>,
    /// Numbers the swaps that were asked for.
    last_swap: AtomicU64,
    swaps: SwapCounts,
    /// Held by whoever makes a version ready and publishes it, which may take long.
    publisher: Mutex<Publisher>,
    /// Held only to read and to store.
    state: Mutex<State>,
}

/// What is known of a slot, whatever is under way.
#[derive(Debug)]
struct State {
    last_generation: u64,
    refusals: Refusals,
    servers: Vec<Weak<dyn Follower>>,
    records: Records,
}

/// A server that serves a slot.
pub(crate) trait Follower: Send + Sync + std::fmt::Debug {
    /// What it is.
    fn info(&self) -> &Arc<ServerInfo>;
    /// Makes ready what a version needs to be served here.
    fn prepare(&self, version: &Arc<Version>) -> io::Result<()>;
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
        let stable = Arc::new(Version::new(&name, handler, generation, options.drain_signal)?);
        stable.record.stop_observing();
        let mut records = Records::default();
        records.add(stable.record.clone());
        let state = State {
            last_generation: generation,
            refusals: Refusals::default(),
            servers: Vec::new(),
            records,
        };
        Ok(Self(Arc::new(Inner {
            name,
            options: ArcSwap::from_pointee(options),
            published: ArcSwap::from_pointee(Published { stable, canary: None }),
            swapping: Mutex::default(),
            last_swap: AtomicU64::new(0),
            swaps: SwapCounts::default(),
            publisher: Mutex::default(),
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

    /// The handler that new requests get, and that of a canary that gets its share of them.
    pub(crate) fn serving(&self) -> (Handler, Option<Handler>) {
        let published = self.0.published.load();
        let canary = published.canary.as_ref().map(|canary| canary.version.handler.clone());
        (published.stable.handler.clone(), canary)
    }

    /// The generation of the newest version.
    pub fn last_generation(&self) -> u64 {
        self.state().last_generation
    }

    /// The versions so far, the newest first; as many as are remembered.
    pub fn versions(&self) -> Vec<VersionStats> {
        self.state().records.stats()
    }

    /// What is measured of the versions so far, the newest first.
    pub(crate) fn measures(&self) -> Vec<VersionMeasures> {
        self.state().records.measures()
    }

    /// How often they were changed.
    pub(crate) fn swap_counts(&self) -> &SwapCounts {
        &self.0.swaps
    }

    /// Puts another version in place: loads it, probes it, and publishes it. The version before serves until
    /// then, and on if anything fails. Of several swaps that wait for one under way, the last is done.
    pub fn swap(&self, source: impl Into<Source>) -> Result<Swapped, SwapError> {
        self.swap_with(source, SwapOptions::default())
    }

    /// Like [`swap`](Self::swap), with options.
    pub fn swap_with(&self, source: impl Into<Source>, options: SwapOptions) -> Result<Swapped, SwapError> {
        let ready = self.make_ready(source.into(), options, self.0.options.load_full());
        Ok(ready?.publish())
    }

    /// Puts the version before in place again, at once: it is still compiled.
    pub fn rollback(&self) -> Result<Swapped, SwapError> {
        let mut publisher = self.publisher();
        self.failed(self.put_previous_back(&mut publisher))
    }

    fn put_previous_back(&self, publisher: &mut Publisher) -> Result<Swapped, SwapError> {
        if self.0.published.load().canary.is_some() {
            return Err(SwapError::CanaryOnTrial);
        }
        let previous = publisher.previous.clone().ok_or(SwapError::NothingBefore)?;
        self.put_back(publisher, previous, Change::Rollback, "asked for".to_owned())
    }

    /// Gives the canary all new requests.
    pub fn promote(&self) -> Result<Swapped, SwapError> {
        let mut publisher = self.publisher();
        let published = self.0.published.load_full();
        let canary = self.failed(published.canary.as_ref().ok_or(SwapError::NoCanary))?;
        Ok(self.put(&mut publisher, canary.version.clone(), Change::Promotion, VersionState::Replaced))
    }

    /// Takes the canary's share of new requests back.
    pub fn abort(&self) -> Result<Swapped, SwapError> {
        let mut publisher = self.publisher();
        self.failed(self.abort_canary(&mut publisher, Change::Abort, VersionState::Aborted))
    }

    /// Has every version that serves try the probe, if there is one.
    pub fn probe_current(&self) -> Result<(), SwapError> {
        self.probe(&self.current(), self.0.options.load().probe.as_ref())
    }

    /// The version for a new request.
    pub(crate) fn take(&self) -> Arc<Version> {
        self.0.published.load().take()
    }

    /// The version that serves what is no request: hooks of the server as a whole.
    pub(crate) fn stable(&self) -> Arc<Version> {
        self.0.published.load().stable.clone()
    }

    /// Makes a server ready for the versions that serve, and for those to come.
    pub(crate) fn attach(&self, server: &Arc<dyn Follower>) -> io::Result<()> {
        // Whoever publishes meanwhile would not know of it.
        let _publisher = self.publisher();
        let published = self.0.published.load_full();
        server.prepare(&published.stable)?;
        if let Some(canary) = &published.canary {
            server.prepare(&canary.version)?;
        }
        let mut state = self.state();
        state.servers.retain(|server| server.strong_count() > 0);
        state.servers.push(Arc::downgrade(server));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    /// A handler that is loaded already has passed whatever its sandbox requires.
    fn load(&self, source: Source, digest: Option<Digest>) -> Result<Handler, HandlerError> {
        let stable = self.stable();
        let sandbox = stable.handler.sandbox();
        match (source, digest) {
            (Source::Handler(handler), _) => Ok(handler),
            (Source::Loader(loader), digest) => loader.load(sandbox, digest),
            (Source::File(path), None) => sandbox.load(path),
            (Source::File(path), Some(digest)) => sandbox.load_pinned(path, digest),
        }
    }

    /// The generation in which this handler, by what it may do, gets all new requests, if it does.
    fn serves_already(&self, handler: &Handler) -> Option<u64> {
        let published = self.0.published.load();
        let stable = &published.stable;
        let serves = published.canary.is_none()
            && stable.handler.digest() == handler.digest()
            && stable.handler.sandbox().is(handler.sandbox());
        serves.then_some(stable.info.generation)
    }

    /// Probes a handler as each server of the slot would have it serve.
    fn probe(&self, handler: &Handler, probe: Option<&Probe>) -> Result<(), SwapError> {
        let Some(probe) = probe else { return Ok(()) };
        self.0.servers().iter().try_for_each(|server| {
            probe
                .run(handler, server.info())
                .map_err(|reason| SwapError::Probe { server: server.info().name.clone(), reason })
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that serve it now.
    fn servers(&self) -> Vec<Arc<dyn Follower>> {
        self.state().servers.iter().filter_map(Weak::upgrade).collect()
    }
}

/// A file's name without its extension.
fn stem(name: &str) -> String {
    Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
