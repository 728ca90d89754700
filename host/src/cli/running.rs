//! What one `plugsock serve` runs: its servers, and the slots that they serve.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use plugsock::control::{ControlSocket, EventKind, emit};
use plugsock::metrics::MetricsSocket;
use plugsock::upgrade::{HandedSlot, Predecessor, upgrade};
use plugsock::{
    Digest, Handler, Origin, Sandbox, ServeAddress, ServeError, Server, Slot, SlotOptions, SwapError,
    Swapped, shown,
};
use signal_hook::consts::SIGTERM;

use super::handler_source::HandlerSource;
use super::log::Log;
use super::progress::spin_while;
use super::registry::{OciReference, Registry};
use super::signals::Signals;
use super::supervisor::Supervisor;
use super::telemetry::Telemetry;
use super::tls::Certificates;
use super::watch::{Files, Look, Seen, tag, watch};
use super::watchdog::Watchdog;

pub struct Running {
    pub servers: Vec<ServedAddress>,
    pub plugs: Vec<Plug>,
    /// Where handlers are fetched.
    pub registry: Registry,
    pub shutdown_timeout: Duration,
    pub certificates: Option<Certificates>,
    /// What an upgrade starts: the path by which this program was started.
    pub executable: PathBuf,
    pub log: Log,
    /// Where it is told what to do. It goes with whoever serves it.
    pub control: Weak<ControlSocket>,
    /// Where metrics are served, likewise.
    pub metrics: Weak<MetricsSocket>,
    /// Held by an upgrade under way.
    pub upgrading: Mutex<()>,
    pub supervisor: Supervisor,
}

/// A server, and the address that it was asked to bind.
pub struct ServedAddress {
    pub asked: ServeAddress,
    pub server: Arc<Server>,
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
}

/// A slot, and what it was told to serve.
#[derive(Clone)]
pub struct Plug {
    pub slot: Slot,
    source: HandlerSource,
    registry: Registry,
    /// What can be watched for changes, and what that was when it was last loaded.
    watched: Option<(Watched, Seen)>,
}

#[derive(Clone)]
enum Watched {
    Files(Files),
    Tag(OciReference),
}

impl Plug {
    /// Loads the handler again, and says in the log what came of it.
    pub fn reload(&self) {
        if self.source != HandlerSource::Echo {
            report(&self.slot, self.swap());
        }
    }

    fn swap(&self) -> Result<Swapped, SwapError> {
        self.slot.swap(self.source.for_swap(&self.registry))
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

/// A swap that succeeded has said so itself.
fn report(slot: &Slot, swapped: Result<Swapped, SwapError>) {
    if let Err(error) = swapped {
        tracing::error!(slot = slot.name(), "not swapped: {error}");
    }
}

impl Running {
    /// Loads a handler into a slot of its own.
    pub fn plug(
        &mut self,
        sandbox: &Sandbox,
        source: HandlerSource,
        options: SlotOptions,
        predecessor: Option<&Predecessor>,
    ) -> anyhow::Result<()> {
        let stem = source.stem();
        let namesakes = self.plugs.iter().filter(|plug| plug.source.stem() == stem);
        let name = match namesakes.count() {
            0 => stem,
            others => format!("{stem}-{}", others + 1),
        };
        let handed = predecessor.and_then(|predecessor| predecessor.slot(&name));
        let is_signed = !sandbox.trust().public_keys.is_empty();
        let watched = match &source {
            HandlerSource::File(file) => Some(Watched::Files(Files::new(file, is_signed))),
            // What is named by a digest is never another.
            HandlerSource::Oci(reference) if reference.digest().is_none() => {
                Some(Watched::Tag(reference.clone()))
            }
            HandlerSource::Echo | HandlerSource::Oci(_) => None,
        };
        let options = SlotOptions { name: Some(name), ..options };
        let loading = format!("compiling {source}");
        let (slot, seen) = match handed {
            // What was swapped in since the start serves on, and a file that has not changed since is not loaded.
            Some(handed) => {
                let handler = spin_while(&loading, || handed.load(sandbox))
                    .context("cannot go on with what the process before this one served")?;
                (handed.resume(handler, options)?, handed.seen.as_deref().and_then(Look::from_bytes))
            }
            None => {
                let before = match &watched {
                    Some(Watched::Files(files)) => Some(files.look()),
                    _ => None,
                };
                let handler = spin_while(&loading, || source.load(sandbox, &self.registry, None))?;
                let tag = manifest_of(&handler).map(Look::at_tag);
                (Slot::new(handler, options)?, before.or(tag))
            }
        };
        let watched = watched.map(|watched| (watched, Arc::new(Mutex::new(seen))));
        self.plugs.push(Plug { slot, source, registry: self.registry.clone(), watched });
        Ok(())
    }

    /// Loads every handler again, and the certificates.
    pub fn reload(&self) {
        emit(|| EventKind::Reloading {});
        self.certificates.iter().for_each(Certificates::reload);
        let reloading = self.supervisor.reloading();
        for plug in self.plugs.clone() {
            let reloading = reloading.clone();
            // Beside each other, and beside whoever asked.
            let spawned = thread::Builder::new().name("reload".to_owned()).spawn(move || {
                plug.reload();
                drop(reloading);
            });
            if let Err(error) = spawned {
                tracing::error!("cannot load the handlers again: {error}");
            }
        }
    }

    /// Loads a handler again whenever its file has changed, or its tag, which is asked for so often.
    pub fn watch(&self, poll: Duration) -> anyhow::Result<()> {
        for plug in self.plugs.iter().cloned() {
            match plug.watched.clone() {
                Some((Watched::Files(files), seen)) => watch(files, seen, move || plug.reload())?,
                Some((Watched::Tag(reference), seen)) => {
                    let registry = self.registry.clone();
                    tag::watch(registry, reference, poll, seen, move || plug.swap())?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Has a new process of this program take over, and ends this one; says in the log what came of it.
    pub fn upgrade(&self) {
        if self.hand_over().is_ok() {
            // From here on as if somebody had asked this process to end.
            let _ = signal_hook::low_level::raise(SIGTERM);
        }
    }

    /// Has the executable that is on disk now take over; the new process's id.
    pub fn hand_over(&self) -> io::Result<u32> {
        let executable = shown(&self.executable);
        tracing::info!("starting {executable} to take over");
        self.start_successor()
            .inspect(|process| self.supervisor.handed_over(*process))
            .inspect(|process| tracing::info!("process {process} has taken over"))
            .inspect_err(|error| tracing::error!("nothing takes over, this process serves on: {error}"))
    }

    fn start_successor(&self) -> io::Result<u32> {
        if std::process::id() == 1 {
            return Err(io::Error::other(
                "with this process, the first of its PID namespace, all others there would end: start the new program \
                 in a container of its own, or run this one below an init (`docker run --init`)",
            ));
        }
        // Let go before anybody hears how it ended, and may ask again.
        let Ok(_upgrading) = self.upgrading.try_lock() else {
            return Err(io::Error::other("another upgrade is under way"));
        };
        let slots: Vec<_> = self.plugs.iter().map(Plug::hand_out).collect::<io::Result<_>>()?;
        let servers: Vec<_> =
            self.servers.iter().map(|bound| (bound.asked.clone(), &*bound.server)).collect();
        let tls = self.certificates.as_ref().map(|certificates| &certificates.tls);
        let (control, metrics) = (self.control.upgrade(), self.metrics.upgrade());
        let arguments = std::env::args_os().skip(1);
        let (control, metrics) = (control.as_deref(), metrics.as_deref());
        upgrade(&self.executable, arguments, &servers, slots, tls, control, metrics)
    }

    /// Serves each server on a thread of its own; the first signal ends them in order, a second at once.
    pub fn serve_until_signal(
        self,
        signals: Signals,
        control: Option<Arc<ControlSocket>>,
        telemetry: Telemetry,
    ) -> anyhow::Result<ExitCode> {
        let running = Arc::new(self);
        let _shown = telemetry.start(&running)?;
        // Until all has ended: whoever waits for that looks here.
        let _control = control.map(|socket| socket.serve(running.clone())).transpose()?;
        let _watchdog = Watchdog::start(&running).context("no thread for the supervisor's watchdog")?;
        let handle = signals.handle();
        let signalled = running.clone();
        let follower =
            thread::Builder::new().name("signals".to_owned()).spawn(move || signals.follow(&signalled))?;
        let served: anyhow::Result<()> = thread::scope(|scope| {
            let serving = running.servers.iter().map(|bound| {
                let spawned =
                    thread::Builder::new().name("accept".to_owned()).spawn_scoped(scope, || bound.serve());
                spawned.inspect_err(|_| {
                    running.servers.iter().for_each(|bound| bound.server.request_shutdown());
                })
            });
            let serving: Vec<_> = serving.collect::<io::Result<_>>().context("no thread to serve on")?;
            // All are waited for, and the first that failed is what this process ends with.
            let served: Vec<_> = serving.into_iter().map(|served| served.join()).collect();
            served.into_iter().try_for_each(|served| served.expect("a panic was caught"))
        });
        if served.is_err() {
            handle.close();
        }
        let _ = follower.join();
        served?;
        Ok(ExitCode::SUCCESS)
    }

    /// Stops accepting, and waits for what is open.
    pub fn close(&self) {
        self.supervisor.stopping();
        emit(|| EventKind::ShuttingDown {});
        let timeout = self.shutdown_timeout;
        tracing::info!("shutting down: no new requests; open ones have {timeout:?}");
        self.servers.iter().for_each(|bound| bound.server.request_shutdown());
        thread::scope(|scope| {
            for ServedAddress { server, .. } in &self.servers {
                let close = move || {
                    let cut = server.server_close_within(timeout);
                    if cut > 0 {
                        tracing::warn!("cut off {cut} requests that were still open on {}", server.address());
                    }
                };
                // Beside each other: what one has still to serve does not wait for what another has open.
                if thread::Builder::new().name("closing".to_owned()).spawn_scoped(scope, close).is_err() {
                    close();
                }
            }
        });
    }
}
