//! Where handlers run: one engine for the process, one fresh instance for each request.
//!
//! A store serves one request and is never entered again after a trap or a cut. Nothing here knows server
//! types or strategies: a request is served on a thread of its own or among others, by the same code.

mod anatomy;
mod cache;
mod code;
mod command;
mod compile_counts;
mod compiler;
mod component;
mod contract;
mod core_dumps;
mod digest;
mod drops;
mod engine;
mod guest;
mod guest_log;
mod handler;
mod hooks;
mod http;
mod io;
mod keyvalue;
mod limits;
mod net_grant;
mod network;
mod origin;
mod partial_file;
mod platform;
mod preview1;
mod profile;
mod proposals;
mod request;
mod sealed_file;
mod seed;
mod source_lines;
mod state;
mod streams;
mod tls;
mod tls_client;
mod trust;
mod ucspi;
mod version_info;
mod warm;
mod wasi;
mod watch;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustls::ClientConfig;
use wasmtime::Engine;

pub use anatomy::{Anatomy, Extent};
pub use cache::CacheOptions;
pub(crate) use compile_counts::CompileCounts;
pub use compiler::CompileOptions;
pub(crate) use compiler::run as run_compiler;
pub use component::{HandlerKind, Import, Inspection};
pub use core_dumps::CoreDumpOptions;
pub(crate) use core_dumps::{CoreDumps, Subject};
pub use digest::{Digest, DigestError};
pub(crate) use engine::{RESERVATION, prepare_thread};
pub use handler::Handler;
pub(crate) use http::{Begun, Exchanges, Fixed, Handover, Pending, Room};
pub use limits::Limits;
pub use net_grant::{NetGrant, NetGrantError, NetHost};
pub use origin::{Fetched, Origin};
pub use profile::Profile;
pub(crate) use sealed_file::{read_sealed, sealed_file};
pub(crate) use source_lines::run as run_source_lines;
pub use tls_client::{TlsCa, TlsCaError};
pub use trust::{PublicKey, PublicKeyError, SignatureError, Trust, signature_path};
pub(crate) use version_info::{Drain, VersionInfo};
pub use wasi::{DirGrant, Grants};
pub(crate) use watch::{TICK, Watch};

use crate::admission::Bound;
use crate::error::{HandlerError, SandboxError, shown};
use crate::stores::{Access, Operation, Outcome};
use cache::Cache;
use code::Code;
use platform::Platform;
use trust::Candidate;

/// The `echo` plugin, which serves where no other handler is named.
const ECHO: &[u8] = include_bytes!(env!("PLUGSOCK_ECHO"));

/// How a sandbox is made.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// What each request may use.
    pub limits: Limits,
    /// What handlers may reach beyond their request.
    pub grants: Grants,
    /// What a component must be to be loaded.
    pub trust: Trust,
    /// What compiling one may take.
    pub compile: CompileOptions,
    /// Where compiled handlers are kept; `None` compiles at every start.
    pub cache: Option<CacheOptions>,
    /// Where traps leave core dumps; `None` leaves none.
    pub core_dumps: Option<CoreDumpOptions>,
}

/// The default limits, no grants, any component, and the user's cache.
impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            grants: Grants::default(),
            trust: Trust::default(),
            compile: CompileOptions::default(),
            cache: CacheOptions::for_user(),
            core_dumps: None,
        }
    }
}

/// Loads handlers and runs them. Cloning is cheap and shares everything; servers of one sandbox share its
/// bound on open requests. [`with`](Self::with) makes another for handlers that may do other things.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

/// What handlers may do, and where they run.
struct Inner {
    host: Arc<Host>,
    limits: Limits,
    grants: Grants,
    trust: Trust,
    state: Reach,
    /// Made for the first handler that asks for it.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// How handlers reach the stores that they are granted.
#[derive(Debug)]
struct Reach {
    access: Arc<Access>,
    /// In a forked child: who runs its operations.
    host: OnceLock<Arc<dyn StateHost>>,
}

/// The host of a forked child, which has its stores.
pub(crate) trait StateHost: Debug + Send + Sync {
    /// Has an operation carried out, and waits for what comes of it, no longer than until the request's end.
    fn run(&self, store: &str, operation: Operation, deadline: Option<Instant>) -> Outcome;
}

/// Where handlers run, whatever each of them may do.
struct Host {
    /// With pools, except where processes are forked.
    platform: Platform,
    /// Whether its process forks, and so must not have a second thread.
    forks: bool,
    /// For what has no room in the pools; made for the first of them.
    roomy: OnceLock<Result<Platform, String>>,
    /// What there is room for, and what compiled code depends on.
    room: Limits,
    compile: CompileOptions,
    cache: Option<Cache>,
    /// How many requests may be open.
    requests: Arc<Bound>,
    /// How many instances may be made ahead of requests.
    ahead: Arc<Bound>,
    core_dumps: CoreDumps,
    compiles: CompileCounts,
    /// Lines of guests that were not logged.
    dropped_lines: Arc<AtomicU64>,
}

impl Reach {
    fn open(grants: &Grants, limits: &Limits) -> Result<Self, SandboxError> {
        let access = Arc::new(Access::open(&grants.state, &limits.state)?);
        Ok(Self { access, host: OnceLock::new() })
    }
}

impl Sandbox {
    /// Starts the engine. An unusable cache directory is said in the log and done without.
    pub fn new(options: SandboxOptions) -> Result<Self, SandboxError> {
        options.grants.check()?;
        let core_dumps = CoreDumps::open(options.core_dumps.as_ref()).map_err(|reason| {
            let directory = options.core_dumps.as_ref().map(|options| shown(&options.directory));
            SandboxError::CoreDumps { path: directory.unwrap_or_default(), reason }
        })?;
        let engine = engine::pooling(&options.limits, core_dumps.are_made());
        let sandbox = Self::with_engine(engine, false, options, core_dumps)?;
        let ticking = engine::start_ticker(&sandbox.host().platform.engine, TICK);
        ticking.map_err(|error| SandboxError::Engine(error.to_string()))?;
        Ok(sandbox)
    }

    /// A sandbox for handlers that may do other things, and are believed for other reasons. It shares all else with this one:
    /// engine, cache, core dumps, and the bound on open requests, so that `max_requests` and `stack` are what they are here.
    /// Fails if the limits are beyond what this one has room for; [`Limits::covering`] says what one with room for all needs.
    pub fn with(&self, limits: Limits, grants: Grants, trust: Trust) -> Result<Self, SandboxError> {
        grants.check()?;
        let room = &self.host().room;
        room.check_room(&limits)?;
        let limits = Limits { max_requests: room.max_requests, stack: room.stack, ..limits };
        let state = Reach::open(&grants, &limits)?;
        let (host, tls) = (self.host().clone(), OnceLock::new());
        Ok(Self(Arc::new(Inner { host, limits, grants, trust, state, tls })))
    }

    /// For a process that forks: without pools, and without a ticker until each child starts its own. `room` is what the
    /// host's engine, which has compiled the code, has room for. The host keeps core dumps of so many bytes.
    pub(crate) fn for_fork_server(
        room: Limits,
        limits: Limits,
        grants: Grants,
        core_dump_size: Option<u64>,
    ) -> Result<Self, SandboxError> {
        let options = SandboxOptions { limits: room, cache: None, ..SandboxOptions::default() };
        let core_dumps = CoreDumps::for_host(core_dump_size);
        let engine = engine::on_demand(&options.limits, core_dumps.are_made());
        let sandbox = Self::with_engine(engine, true, options, core_dumps)?;
        sandbox.with(limits, grants, Trust::default())
    }

    fn with_engine(
        engine: wasmtime::Result<Engine>,
        forks: bool,
        options: SandboxOptions,
        core_dumps: CoreDumps,
    ) -> Result<Self, SandboxError> {
        let refused =
            |error: wasmtime::Error| SandboxError::Engine(format!("{error:#}{}", engine::hint(&error)));
        let platform = engine.and_then(Platform::new).map_err(refused)?;
        let SandboxOptions { limits, grants, trust, compile, cache, core_dumps: _ } = options;
        let cache = cache.and_then(|cache| {
            let directory = shown(&cache.directory);
            let warn = |error: &std::io::Error| {
                tracing::warn!("compiled handlers are not kept: cache {directory}: {error}");
            };
            Cache::open(cache).inspect_err(warn).ok()
        });
        let requests = Bound::new(limits.max_requests);
        let ahead = Bound::new(engine::warm(&limits));
        let state = Reach::open(&grants, &limits)?;
        let (roomy, tls, room) = (OnceLock::new(), OnceLock::new(), limits.clone());
        let (compiles, dropped_lines) = Default::default();
        let host = Host {
            platform,
            forks,
            roomy,
            room,
            compile,
            cache,
            requests,
            ahead,
            core_dumps,
            compiles,
            dropped_lines,
        };
        Ok(Self(Arc::new(Inner { host: Arc::new(host), limits, grants, trust, state, tls })))
    }

    /// Without pools: each instance gets memory of its own, as much of it as it needs.
    fn roomy(&self) -> Result<&Platform, String> {
        let host = self.host();
        let roomy = host.roomy.get_or_init(|| {
            let platform = engine::on_demand(&host.room, host.core_dumps.are_made()).and_then(Platform::new);
            let platform = platform.map_err(|error| format!("{error:#}"))?;
            engine::start_ticker(&platform.engine, TICK).map_err(|error| error.to_string())?;
            Ok(platform)
        });
        roomy.as_ref().map_err(|error| format!("no engine for what has many memories: {error}"))
    }

    /// Where code was loaded.
    fn platform_of(&self, code: &Code) -> &Platform {
        let host = self.host();
        let roomy = host.roomy.get().and_then(|roomy| roomy.as_ref().ok());
        let holds = |platform: &&Platform| Engine::same(&platform.engine, code.engine());
        roomy.filter(holds).unwrap_or(&host.platform)
    }

    /// Has every running guest looked at; due once a [`TICK`].
    pub(crate) fn tick(&self) {
        self.host().platform.engine.increment_epoch();
    }

    /// Loads what [`Handler::precompiled`] of this executable wrote.
    pub(crate) fn load_precompiled(
        &self,
        name: &str,
        digest: &str,
        code: OwnedFd,
    ) -> Result<Handler, HandlerError> {
        Handler::from_precompiled(self, name, digest, code)
    }

    /// Loads a component, or a program for WASI preview 1, from a file; from the cache if it was compiled before.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Handler, HandlerError> {
        self.load_file(path.as_ref(), self.0.trust.digest)
    }

    /// Like [`load`](Self::load), but of the component with this digest alone, whichever one
    /// [`Trust::digest`] names.
    pub fn load_pinned(&self, path: impl AsRef<Path>, digest: Digest) -> Result<Handler, HandlerError> {
        self.load_file(path.as_ref(), Some(digest))
    }

    /// Loads the same from memory; `name` stands for it in the log.
    pub fn load_bytes(&self, name: impl Into<String>, component: &[u8]) -> Result<Handler, HandlerError> {
        let candidate = Candidate::from_memory(component);
        let kept = keep(component);
        Ok(self.load_candidate(name.into(), candidate, self.0.trust.digest)?.keeping(kept))
    }

    /// Loads a component that was fetched from a registry. `digest` is the only one that is right, if there is one;
    /// without it, it is the one that [`Trust::digest`] names.
    pub fn load_fetched(&self, fetched: &Fetched, digest: Option<Digest>) -> Result<Handler, HandlerError> {
        let candidate = Candidate::fetched(fetched);
        let pinned = digest.or(self.0.trust.digest);
        let handler = self.load_candidate(fetched.name.clone(), candidate, pinned)?;
        let origin = Origin::Registry(fetched.reference.clone());
        Ok(handler.loaded_from(Some(origin)).keeping(keep(&fetched.bytes)))
    }

    /// Loads what the process before this one kept of a handler. It has checked where that came from, so that
    /// only its length is looked at.
    pub(crate) fn load_handed_over(
        &self,
        name: &str,
        origin: Option<Origin>,
        component: OwnedFd,
    ) -> Result<Handler, HandlerError> {
        let unreadable = |reason| HandlerError::Read { name: name.to_owned(), reason };
        let copy = component.try_clone().map_err(unreadable)?;
        let bytes = read_sealed(copy, self.0.trust.max_size).map_err(unreadable)?;
        let handler = self.load_candidate(name.to_owned(), Candidate::handed_over(&bytes), None)?;
        Ok(handler.loaded_from(origin).keeping(Some(component)))
    }

    /// Loads the built-in `echo`.
    pub fn echo(&self) -> Result<Handler, HandlerError> {
        self.load_candidate("echo".to_owned(), Candidate::built_in(ECHO), self.0.trust.digest)
    }

    fn host(&self) -> &Arc<Host> {
        &self.0.host
    }

    /// What the engine has room for, whatever these handlers may take of it.
    pub(crate) fn room(&self) -> &Limits {
        &self.host().room
    }

    /// Whether handlers may do the same in both, since they are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What a component must be to be loaded.
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    fn load_file(&self, path: &Path, pinned: Option<Digest>) -> Result<Handler, HandlerError> {
        let candidate = self.read(path)?;
        let kept = keep(&candidate.bytes);
        // Absolute, for whoever starts in another directory; that fails only for an empty path.
        let origin = std::path::absolute(path).ok().map(Origin::File);
        Ok(self.load_candidate(path_name(path), candidate, pinned)?.loaded_from(origin).keeping(kept))
    }

    fn load_candidate(
        &self,
        name: String,
        candidate: Candidate<'_>,
        pinned: Option<Digest>,
    ) -> Result<Handler, HandlerError> {
        self.check(&name, &candidate, pinned)?;
        Handler::new(self, name, &candidate.bytes, candidate.digest)
    }

    fn read(&self, path: &Path) -> Result<Candidate<'static>, HandlerError> {
        let name = || path.display().to_string();
        let read = Candidate::read(path, &self.0.trust);
        read.map_err(|reason| HandlerError::Read { name: name(), reason })
    }

    fn check(
        &self,
        name: &str,
        candidate: &Candidate<'_>,
        pinned: Option<Digest>,
    ) -> Result<(), HandlerError> {
        let checked = candidate.check(&self.0.trust, pinned);
        checked.map_err(|reason| HandlerError::Untrusted { name: name.to_owned(), reason })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// Runs an operation on a store that handlers may open by this name, for a request with this end.
    async fn operate(&self, store: &str, operation: Operation, deadline: Option<Instant>) -> Outcome {
        match self.0.state.host.get() {
            Some(host) => host.run(store, operation, deadline),
            None => self.0.state.access.run(store, operation).await,
        }
    }

    /// What runs operations for children that were forked.
    pub(crate) fn state(&self) -> &Arc<Access> {
        &self.0.state.access
    }

    /// Says how this child reaches its host.
    pub(crate) fn reach_state_by(&self, host: Arc<dyn StateHost>) {
        let _ = self.0.state.host.set(host);
    }

    /// How handlers speak TLS; `None` where they have nobody to speak to.
    fn tls_config(&self) -> Option<&Arc<ClientConfig>> {
        let Grants { net, tls_ca, .. } = self.grants();
        (!net.is_empty()).then(|| self.0.tls.get_or_init(|| tls_client::client_config(tls_ca)))
    }

    pub(crate) fn core_dumps(&self) -> &CoreDumps {
        &self.host().core_dumps
    }

    /// Whether both have one engine, so that what is counted of it is counted of both.
    pub(crate) fn shares_engine_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.host(), other.host())
    }

    pub(crate) fn compiles(&self) -> &CompileCounts {
        &self.host().compiles
    }

    /// How many lines of guests were not logged so far.
    pub(crate) fn dropped_lines(&self) -> u64 {
        self.host().dropped_lines.load(Relaxed)
    }

    /// Counts those of another process.
    pub(crate) fn add_dropped_lines(&self, lines: u64) {
        self.host().dropped_lines.fetch_add(lines, Relaxed);
    }

    pub(crate) fn requests(&self) -> &Arc<Bound> {
        &self.host().requests
    }
}

/// A copy of a component that nobody can change, as far as there is room for it.
fn keep(component: &[u8]) -> Option<OwnedFd> {
    let kept = sealed_file("component", component);
    kept.inspect_err(|error| tracing::debug!("cannot keep a handler's component: {error}")).ok()
}

/// What a handler from a file is called: the file's name without its directory, in one line.
fn path_name(path: &Path) -> String {
    shown(Path::new(path.file_name().unwrap_or(path.as_os_str())))
}
