//! What one `plugsock serve` runs: its servers, and the slots that they serve.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use crossbeam::channel::{Sender, bounded};
use plugsock::control::{ControlSocket, EventKind, emit};
use plugsock::metrics::MetricsSocket;
use plugsock::traces::Traces;
use plugsock::upgrade::{HandOver, HandedSlot, Predecessor};
use plugsock::{
    Digest, Handler, HandlerError, Origin, Sandbox, ServeAddress, ServeError, Server, Slot, SlotOptions,
    SwapError, Swapped, shown,
};
use signal_hook::consts::SIGTERM;

use super::executable::Executable;
use super::fleet::Part;
use super::handler_source::HandlerSource;
use super::log::Log;
use super::plan::{PlannedCertificates, PlannedHandler, PlannedServer};
use super::progress::spin_while;
use super::registry::{OciReference, Registry};
use super::reload::Configured;
use super::signals::Signals;
use super::supervisor::Supervisor;
use super::telemetry::Telemetry;
use super::tls::Certificates;
use super::watch::{Files, Look, Seen, tag, watch};
use super::watchdog::Watchdog;

pub struct Running {
    pub serving: Arc<Mutex<Serving>>,
    pub accepting: Arc<Accepting>,
    /// Where handlers are fetched.
    pub registry: Registry,
    /// Where there is a configuration, what a reload begins with.
    pub configured: Option<Configured>,
    /// What an upgrade starts, unless it is told otherwise.
    pub executable: Executable,
    pub log: Log,
    /// Where it is told what to do. It goes with whoever serves it.
    pub control: Weak<ControlSocket>,
    /// Where metrics are served, likewise.
    pub metrics: Weak<MetricsSocket>,
    /// Where servers send what their requests do, if anywhere.
    pub traces: Option<Traces>,
    /// Held by an upgrade under way.
    pub upgrading: Mutex<()>,
    pub supervisor: Supervisor,
}

/// What a reload changes.
#[derive(Default)]
pub struct Serving {
    pub servers: Vec<Arc<ServedAddress>>,
    pub plugs: Vec<Plug>,
    pub certificates: PlannedCertificates,
    /// Servers that serve what they had accepted, and nothing more.
    pub ending: Vec<Arc<ServedAddress>>,
    /// Nothing is to be changed any more.
    pub is_closing: bool,
    /// What is known of the fleet, where there is one.
    pub fleet: Option<Arc<Part>>,
    /// Whose this is, from when it serves.
    pub running: Weak<Running>,
}

/// A server, and the address that it was asked to bind.
pub struct ServedAddress {
    pub asked: ServeAddress,
    pub server: Arc<Server>,
    /// What it was told; of a socket that somebody else bound, what the first server was told.
    pub planned: PlannedServer,
    /// Whether somebody else bound its socket.
    pub is_inherited: bool,
    /// How long open requests may go on when it ends.
    pub shutdown_timeout: Duration,
}

impl ServedAddress {
    /// Serves until it is closed. What else ends it is said at once: other addresses may be served for long.
    fn serve(&self) -> anyhow::Result<()> {
        let address = self.server.address();
        match catch_unwind(AssertUnwindSafe(|| self.server.serve_forever())) {
            // A signal may close a server before it is served at all.
            Ok(Ok(()) | Err(ServeError::Closed)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow::anyhow!("the host panicked; please report this")),
        }
        .map_err(|error| error.context(format!("{address} is served no more")))
        .inspect_err(|error| tracing::error!("{error:#}"))
    }

    /// Ends it, cutting off what is open for too long.
    fn close(&self) {
        let cut = self.server.server_close_within(self.shutdown_timeout);
        if cut > 0 {
            tracing::warn!("cut off {cut} requests that were still open on {}", self.server.address());
        }
    }
}

/// The threads that accept.
#[derive(Default)]
pub struct Accepting {
    state: Mutex<Accepted>,
    has_ended: Condvar,
}

#[derive(Default)]
struct Accepted {
    threads: usize,
    /// Why the first of them failed.
    failure: Option<anyhow::Error>,
}

impl Accepting {
    /// Has a server served on a thread of its own: as soon as something is sent, and never if nothing will be.
    pub fn start(self: &Arc<Self>, bound: Arc<ServedAddress>) -> io::Result<Sender<()>> {
        let (go, gone) = bounded::<()>(1);
        let accepting = self.clone();
        self.state().threads += 1;
        let spawned = thread::Builder::new().name("accept".to_owned()).spawn(move || {
            let served = if gone.recv().is_ok() { bound.serve() } else { Ok(()) };
            drop(bound);
            accepting.end(served);
        });
        match spawned {
            Ok(_) => Ok(go),
            Err(error) => {
                self.end(Ok(()));
                Err(error)
            }
        }
    }

    fn end(&self, served: anyhow::Result<()>) {
        let mut state = self.state();
        state.threads -= 1;
        state.failure = state.failure.take().or(served.err());
        self.has_ended.notify_all();
    }

    /// Waits for the end of all, and returns what the first that failed has said.
    fn wait(&self) -> anyhow::Result<()> {
        let waited = self.has_ended.wait_while(self.state(), |state| state.threads > 0);
        let failure = waited.unwrap_or_else(PoisonError::into_inner).failure.take();
        failure.map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, Accepted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot, and what it was told to serve.
#[derive(Clone)]
pub struct Plug {
    pub slot: Slot,
    pub planned: PlannedHandler,
    /// Where its handler is loaded.
    pub sandbox: Sandbox,
    registry: Registry,
    /// What can be watched for changes, and what that was when it was last loaded.
    watched: Option<(Watched, Seen)>,
    pub held: Held,
}

/// Whether a slot serves what the fleet says. Then its own handler, whatever becomes of that, has to wait.
#[derive(Clone, Default)]
pub struct Held(Arc<AtomicBool>);

impl Held {
    pub fn set(&self, held: bool) {
        self.0.store(held, Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What a handler is loaded from, where that may become another.
#[derive(Clone)]
enum Watched {
    Files(Files),
    Tag(OciReference),
}

impl Watched {
    fn of(planned: &PlannedHandler, sandbox: &Sandbox) -> Option<Self> {
        match &planned.source {
            HandlerSource::File(file) => {
                let is_signed = !sandbox.trust().public_keys.is_empty();
                Some(Self::Files(Files::new(file, is_signed)))
            }
            // What is named by a digest is never another.
            HandlerSource::Oci(reference) if reference.digest().is_none() => {
                Some(Self::Tag(reference.clone()))
            }
            HandlerSource::Echo | HandlerSource::Oci(_) => None,
        }
    }

    /// What it is now, as far as that can be told without asking anybody.
    fn look(&self) -> Option<Look> {
        match self {
            Self::Files(files) => Some(files.look()),
            Self::Tag(_) => None,
        }
    }
}

impl Plug {
    /// For a slot whose handler is loaded next.
    pub fn new(slot: Slot, planned: PlannedHandler, sandbox: Sandbox, registry: Registry) -> Self {
        let watched = Watched::of(&planned, &sandbox);
        let watched = watched.map(|watched| (watched.clone(), Arc::new(Mutex::new(watched.look()))));
        Self { slot, planned, sandbox, registry, watched, held: Held::default() }
    }

    /// For the same slot, told otherwise.
    pub fn told(&self, planned: &PlannedHandler, sandbox: Sandbox) -> Self {
        let told = Self::new(self.slot.clone(), planned.clone(), sandbox, self.registry.clone());
        Self { held: self.held.clone(), ..told }
    }

    /// Loads a handler into a slot of its own.
    pub fn load(
        sandbox: Sandbox,
        planned: &PlannedHandler,
        registry: &Registry,
        predecessor: Option<&Predecessor>,
    ) -> anyhow::Result<Self> {
        let PlannedHandler { name, source, args, .. } = planned;
        let handed = predecessor.and_then(|predecessor| predecessor.slot(name));
        let watched = Watched::of(planned, &sandbox);
        let options = SlotOptions { name: Some(name.clone()), ..args.swapping.slot_options() };
        let loading = format!("compiling {source}");
        let (slot, seen) = match handed {
            // What was swapped in since the start serves on, and a file that has not changed since is not loaded.
            Some(handed) => {
                let handler = spin_while(&loading, || handed.load(&sandbox))
                    .context("cannot go on with what the process before this one served")?;
                (handed.resume(handler, options)?, handed.seen.as_deref().and_then(Look::from_bytes))
            }
            None => {
                let before = watched.as_ref().and_then(Watched::look);
                let handler = spin_while(&loading, || source.load_first(&sandbox, registry))?;
                let tag = manifest_of(&handler).map(Look::at_tag);
                (Slot::new(handler, options)?, before.or(tag))
            }
        };
        let watched = watched.map(|watched| (watched, Arc::new(Mutex::new(seen))));
        let (planned, registry) = (planned.clone(), registry.clone());
        Ok(Self { slot, planned, sandbox, registry, watched, held: Held::default() })
    }

    /// The same, told what makes no difference to its handler and its files.
    pub fn planned_as(&self, planned: &PlannedHandler) -> Self {
        Self { planned: planned.clone(), ..self.clone() }
    }

    /// Whether who watches this one watches the other.
    pub fn is_watched_like(&self, other: &Self) -> bool {
        let seen = |plug: &Self| plug.watched.as_ref().map(|(_, seen)| Arc::as_ptr(seen));
        seen(self) == seen(other)
    }

    /// Its handler as it is now.
    pub fn handler(&self) -> Result<Handler, HandlerError> {
        if !self.held.is_set() {
            return self.planned.source.load(&self.sandbox, &self.registry, None);
        }
        let unreadable = |reason| HandlerError::Read { name: self.slot.current().name().to_owned(), reason };
        HandedSlot::of(&self.slot).map_err(unreadable)?.load(&self.sandbox)
    }

    /// Loads the handler again, and says in the log what came of it.
    pub fn reload(&self) {
        reload(&self.slot, &self.planned.source, &self.registry, &self.held);
    }

    /// Has the handler loaded again whenever its file has changed, or its tag, if that was asked for, and as long as this is
    /// served.
    pub fn watch(&self) -> anyhow::Result<()> {
        let swapping = &self.planned.args.swapping;
        let Some((watched, seen)) = self.watched.as_ref().filter(|_| swapping.watch) else {
            return Ok(());
        };
        let (slot, source, registry, held) =
            (self.slot.clone(), self.planned.source.clone(), self.registry.clone(), self.held.clone());
        match watched {
            Watched::Files(files) => {
                watch(files.clone(), seen, move || reload(&slot, &source, &registry, &held))
            }
            Watched::Tag(reference) => {
                let asked = registry.clone();
                let swap = move || match is_held(&slot, &held) {
                    true => Ok(()),
                    false => slot.swap(source.for_swap(&registry)).map(drop),
                };
                tag::watch(asked, reference.clone(), swapping.registry_poll, seen, swap)
            }
        }
    }

    /// What a process that takes over needs of it.
    fn hand_out(&self) -> io::Result<HandedSlot> {
        // Read first: a change that is being loaded now is one for the other process, too.
        let seen = self
            .watched
            .as_ref()
            .and_then(|(_, seen)| seen.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut handed = HandedSlot::of(&self.slot)?;
        handed.seen = seen.and_then(|seen| seen.to_bytes());
        Ok(handed)
    }
}

/// The manifest by which a handler was fetched, if it was.
fn manifest_of(handler: &Handler) -> Option<Digest> {
    match handler.origin()? {
        Origin::Registry(reference) => reference.parse::<OciReference>().ok()?.digest(),
        Origin::File(_) => None,
    }
}

/// Whether what has changed is not loaded, and says so.
fn is_held(slot: &Slot, held: &Held) -> bool {
    if held.is_set() {
        tracing::info!(slot = slot.name(), "not loaded again: this slot serves what the fleet says");
    }
    held.is_set()
}

fn reload(slot: &Slot, source: &HandlerSource, registry: &Registry, held: &Held) {
    if *source != HandlerSource::Echo && !is_held(slot, held) {
        report(slot, slot.swap(source.for_swap(registry)));
    }
}

/// A swap that succeeded has said so itself.
fn report(slot: &Slot, swapped: Result<Swapped, SwapError>) {
    if let Err(error) = swapped {
        tracing::error!(slot = slot.name(), "not swapped: {error}");
    }
}

impl Running {
    pub fn new(executable: Executable, log: Log, registry: Registry, configured: Option<Configured>) -> Self {
        let (serving, accepting, control, metrics, traces, upgrading, supervisor) = Default::default();
        Self {
            serving,
            accepting,
            registry,
            configured,
            executable,
            log,
            control,
            metrics,
            traces,
            upgrading,
            supervisor,
        }
    }

    pub fn serving(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that accept.
    pub fn servers(&self) -> Vec<Arc<ServedAddress>> {
        self.serving().servers.clone()
    }

    /// Loads all again, on another thread; the log says what came of it.
    pub fn reload_in_background(self: &Arc<Self>) {
        let (running, reloading) = (self.clone(), self.supervisor.reloading());
        let spawned = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            // It has said in the log what failed.
            let _ = running.reload();
            drop(reloading);
        });
        if let Err(error) = spawned {
            tracing::error!("nothing is loaded again: {error}");
        }
    }

    /// Loads every handler again, and the certificates: each by itself, since nothing else can have changed.
    pub fn reload_files(&self) -> Vec<String> {
        let (plugs, certificates) = {
            let serving = self.serving();
            (serving.plugs.clone(), serving.certificates.clone())
        };
        certificates.loaded().for_each(Certificates::reload);
        // Beside each other.
        let before = plugs.iter().map(|plug| plug.slot.last_generation()).collect::<Vec<_>>();
        thread::scope(|scope| {
            for plug in &plugs {
                let named = thread::Builder::new().name("reload".to_owned());
                if let Err(error) = named.spawn_scoped(scope, || plug.reload()) {
                    tracing::error!(slot = plug.slot.name(), "not loaded again: {error}");
                }
            }
        });
        let swapped = plugs.iter().zip(before).filter(|(plug, before)| plug.slot.last_generation() > *before);
        swapped.map(|(plug, _)| format!("handler {} is another", plug.slot.name())).collect()
    }

    /// Has what files say loaded again whenever they have changed, where that was asked for.
    pub fn watch(self: &Arc<Self>) -> anyhow::Result<()> {
        let (plugs, certificates) = {
            let serving = self.serving();
            (serving.plugs.clone(), serving.certificates.clone())
        };
        plugs.iter().try_for_each(Plug::watch)?;
        certificates.loaded().try_for_each(Certificates::watch)?;
        if let Some(configured) = self.configured.as_ref()
            && plugs.iter().any(|plug| plug.planned.args.swapping.watch)
        {
            configured.watch(self)?;
        }
        Ok(())
    }

    /// Ends servers that a reload has replaced or removed: those that are removed cut off what is open for too long.
    pub fn end(&self, bound: Arc<ServedAddress>, is_removed: bool) {
        let serving = self.serving.clone();
        let ending = bound.clone();
        bound.server.request_shutdown();
        let spawned = thread::Builder::new().name("closing".to_owned()).spawn(move || {
            match is_removed {
                true => ending.close(),
                false => ending.server.server_close(),
            }
            serving
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .ending
                .retain(|other| !Arc::ptr_eq(other, &ending));
        });
        if let Err(error) = spawned {
            tracing::error!("{} is closed with this process: {error}", bound.server.address());
        }
    }

    /// Has a new process of this program take over, and ends this one; says in the log what came of it.
    pub fn upgrade(&self) {
        if self.hand_over().is_ok() {
            // From here on as if somebody had asked this process to end.
            let _ = signal_hook::low_level::raise(SIGTERM);
        }
    }

    /// Has another program take over, and ends this one.
    pub fn upgrade_to(&self, executable: &Path) -> io::Result<()> {
        self.hand_over_to(executable)?;
        signal_hook::low_level::raise(SIGTERM)
    }

    /// Has the executable that is on disk now take over; the new process's id.
    pub fn hand_over(&self) -> io::Result<u32> {
        self.hand_over_to(&self.executable.path)
    }

    fn hand_over_to(&self, executable: &Path) -> io::Result<u32> {
        tracing::info!("starting {} to take over", shown(executable));
        self.start_successor(executable)
            .inspect(|process| self.supervisor.handed_over(*process))
            .inspect(|process| tracing::info!("process {process} has taken over"))
            .inspect_err(|error| tracing::error!("nothing takes over, this process serves on: {error}"))
    }

    fn start_successor(&self, executable: &Path) -> io::Result<u32> {
        if std::process::id() == 1 {
            return Err(io::Error::other(
                "with this process, the first of its PID namespace, all others there would end: start the new program \
                 in a container of its own, or run this one below an init (`docker run --init`)",
            ));
        }
        // Let go before anybody hears how it ended, and may ask again.
        let Ok(_upgrading) = self.upgrading.try_lock() else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another upgrade is under way"));
        };
        let (plugs, certificates, part) = {
            let serving = self.serving();
            (serving.plugs.clone(), serving.certificates.clone(), serving.fleet.clone())
        };
        let bound = self.servers();
        let inherited = bound.iter().filter(|bound| bound.is_inherited);
        let (control, metrics) = (self.control.upgrade(), self.metrics.upgrade());
        let hand_over = HandOver {
            servers: bound.iter().map(|bound| (bound.asked.clone(), &*bound.server)).collect(),
            inherited: inherited.map(|bound| bound.asked.clone()).collect(),
            slots: plugs.iter().map(Plug::hand_out).collect::<io::Result<_>>()?,
            tls: certificates.loaded().map(|certificates| &certificates.tls).collect(),
            control: control.as_deref(),
            metrics: metrics.as_deref(),
        };
        let mut successor = Command::new(executable);
        let (name, path) = self.executable.variable();
        successor.args(std::env::args_os().skip(1)).env(name, path);
        successor.envs(part.as_ref().map(|part| part.variable()));
        let process = hand_over.to(successor)?;
        part.inspect(|part| part.hand_over());
        Ok(process)
    }

    /// Serves each server on a thread of its own; the first signal ends them in order, a second at once.
    pub fn serve_until_signal(
        self,
        signals: Signals,
        control: Option<Arc<ControlSocket>>,
        telemetry: Telemetry,
    ) -> anyhow::Result<ExitCode> {
        let running = Arc::new(self);
        running.serving().running = Arc::downgrade(&running);
        running.watch()?;
        let _shown = telemetry.start(&running)?;
        // Until all has ended: whoever waits for that looks here.
        let _control = control.map(|socket| socket.serve(running.clone())).transpose()?;
        let _watchdog = Watchdog::start(&running).context("no thread for the supervisor's watchdog")?;
        let handle = signals.handle();
        let signalled = running.clone();
        let follower =
            thread::Builder::new().name("signals".to_owned()).spawn(move || signals.follow(&signalled))?;
        let started: io::Result<Vec<_>> =
            running.servers().into_iter().map(|bound| running.accepting.start(bound)).collect();
        let started = started.map(|all| {
            all.into_iter().for_each(|go| {
                let _ = go.send(());
            })
        });
        // All are waited for, and the first that failed is what this process ends with.
        let served = started.context("no thread to serve on").and_then(|()| running.accepting.wait());
        if served.is_err() {
            handle.close();
        }
        let _ = follower.join();
        let part = running.serving().fleet.clone();
        part.inspect(|part| part.wait_until_left());
        served?;
        Ok(ExitCode::SUCCESS)
    }

    /// Stops accepting, and waits for what is open.
    pub fn close(&self) {
        self.supervisor.stopping();
        emit(|| EventKind::ShuttingDown {});
        let (servers, ending) = {
            let mut serving = self.serving();
            serving.is_closing = true;
            (serving.servers.clone(), serving.ending.clone())
        };
        let timeout = servers.iter().map(|bound| bound.shutdown_timeout).max().unwrap_or_default();
        tracing::info!("shutting down: no new requests; open ones have {timeout:?}");
        servers.iter().for_each(|bound| bound.server.request_shutdown());
        thread::scope(|scope| {
            for bound in servers.iter().chain(&ending) {
                let close = || bound.close();
                // Beside each other: what one has still to serve does not wait for what another has open.
                if thread::Builder::new().name("closing".to_owned()).spawn_scoped(scope, close).is_err() {
                    close();
                }
            }
        });
    }
}
