//! `plugsock serve`: binds addresses and serves them with a handler until a signal.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use clap::Args;
use plugsock::surroundings;
use plugsock::upgrade::Predecessor;
use plugsock::{Listener, ServeAddress, Server};

use super::capacity;
use super::config::keys;
use super::config::layers::CommandLine;
use super::control::ControlArgs;
use super::executable;
use super::fleet::{self, FleetArgs, Joining};
use super::handler_source::HandlerSource;
use super::inherited::{self, Inherited};
use super::kept::Kept;
use super::log::LogOptions;
use super::options::{EngineArgs, GuestArgs};
use super::plan::{Plan, PlannedCertificates};
use super::privileges::PrivilegeArgs;
use super::registry::RegistryArgs;
use super::reload::{ConfigFile, Configured};
use super::running::{Plug, Running, ServedAddress, Serving};
use super::serving::ServerArgs;
use super::signals;
use super::swapping::SwapArgs;
use super::targets::sort_targets;
use super::telemetry::{self, TelemetryArgs};

/// Serve addresses with a handler
///
/// Each request gets a fresh instance of the handler, which reaches nothing but its client and what is
/// granted. With nothing else named, the built-in echo serves tcp://127.0.0.1:10001.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// Addresses (tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, unix:///PATH, unix://@NAME, tls+unix:///PATH,
    /// unixgram:///PATH, unixgram://@NAME) and the handler, a component's file or oci://REGISTRY/NAME:TAG. Of several handlers
    /// each serves the addresses before it
    #[arg(value_name = "ADDRESS|HANDLER")]
    targets: Vec<OsString>,

    /// The handler, if not given among the addresses
    #[arg(long, value_name = "FILE|oci://…", value_parser = HandlerSource::parser())]
    handler: Option<HandlerSource>,

    /// What is served and how, in a file: its keys are these options. What is given here goes before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: ServeOptions,
}

/// All that may stand in a configuration's file, too, by what it concerns. Flags may be taken back (`--watch=false`).
#[derive(Args, Clone, Debug)]
#[command(mut_args(keys::may_be_off))]
pub struct ServeOptions {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub handler: HandlerArgs,
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// What may be another for each handler.
#[derive(Args, Clone, Debug)]
pub struct HandlerArgs {
    #[command(flatten)]
    pub swapping: SwapArgs,
    #[command(flatten)]
    pub guest: GuestArgs,
}

/// What there is once.
#[derive(Args, Clone, Debug)]
pub struct ProcessArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    #[command(flatten)]
    pub privileges: PrivilegeArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub log: LogOptions,
}

const EXAMPLES: &str = "Examples:
  plugsock serve
  plugsock serve tcp://[::]:7 echo.wasm --concurrency pool --workers 8
  plugsock serve udp://:5353 tcp://:5353 dns.wasm --dir ./zones::/zone
  plugsock serve unix:///run/upper.sock upper.wasm --mode 660
  plugsock serve tcp://:7 udp://:7 echo.wasm tcp://:79 finger.wasm --watch
  plugsock serve tls://:7443 echo.wasm --tls example=example.crt,example.key
  plugsock serve tcp://:7 oci://cr.example/acme/echo:1 --public-key release.pub
  plugsock serve --config plugsock.toml

Sockets that systemd passes (LISTEN_FDS) are served as well, each as what it is, by the first handler; those that it names
'tls' (FileDescriptorName=) with TLS. Where there is a
NOTIFY_SOCKET, the supervisor is told of the start, of reloads, of the end, and of the process that takes over.

Signals: the first SIGINT or SIGTERM stops accepting and lets open requests end; a second exits at once.
SIGHUP loads the configuration and the handlers again; the old versions serve until the new ones are ready, and on
if they are not fit. SIGUSR2 starts the executable on disk anew with the same sockets and, when that is ready, ends this
process as SIGTERM does.";

impl Serve {
    /// `args` are those after the subcommand's own name.
    pub fn run(self, args: Vec<OsString>) -> anyhow::Result<ExitCode> {
        surroundings::settle();
        if let Err(error) = surroundings::reap_adopted() {
            anyhow::bail!("cannot reap the processes that come to this one: {error}");
        }
        self.serve(args)
    }

    /// Serves, once this process is settled in its surroundings.
    pub fn serve(self, args: Vec<OsString>) -> anyhow::Result<ExitCode> {
        let targets = sort_targets(&self.targets, self.handler).unwrap_or_else(|error| super::exit(error));
        let line = CommandLine::new::<Self>("plugsock serve", args)?;
        let config = self.config.as_deref().map(ConfigFile::look);
        let mut plan = Plan::make(&line, self.config.as_deref(), &targets)?;
        let log = plan.process.log.init_to_serve()?;
        plugsock::become_helper_process_if_asked();
        capacity::check()?;
        let inherited = inherited::take()?;
        // Before anything is bound, so that no signal finds the default disposition.
        let signals = signals::catch()?;
        plan.check()?;
        let membership = plan.process.fleet.membership(&plan.handlers)?;
        let strategies = plan.servers.iter().map(|server| server.args.concurrency(&plan.process.log));
        capacity::prepare(plan.process.engine.max_requests(), strategies);
        let mut predecessor = Predecessor::take_over().context("cannot take over")?;
        // What root may be needed for comes first. Handlers are loaded by whom they are served by.
        let certificates = plan.certificates(&PlannedCertificates::default())?;
        if let Some(predecessor) = &mut predecessor {
            certificates.loaded().for_each(|certificates| predecessor.resume_sessions(&certificates.tls));
        }
        let listeners = listen(&plan, inherited, predecessor.as_mut())?;
        let metrics = plan.process.telemetry.bind(predecessor.as_mut())?;
        let home = plan.process.privileges.drop()?;
        let registry = plan.process.registry.clone().registry(home.as_deref());
        if let Some(home) = home {
            plan.process.engine = plan.process.engine.with_cache_below(&home);
        }
        let kept = plan.process.engine.cache_directory().map(|cache| Kept::below(&cache));
        let registry = registry.keeping(kept.clone());
        let strategies = listeners
            .iter()
            .map(|listening| plan.servers[listening.server].args.concurrency(&plan.process.log));
        capacity::check_threads(strategies)?;
        let executable =
            executable::find(predecessor.is_some()).context("cannot tell where this program lies")?;
        let engine = plan.engine(config.is_some())?;
        let telemetry = plan.process.telemetry.prepare(metrics.clone())?;
        let traces = telemetry.traces.as_ref();
        let mut serving = Serving { certificates, ..Serving::default() };
        for handler in &plan.handlers {
            let sandbox = handler.sandbox(&engine).map_err(|error| handler.blame(error))?;
            let plug = Plug::load(sandbox, handler, &registry, predecessor.as_ref());
            serving.plugs.push(plug.map_err(|error| handler.blame(error))?);
        }
        for Listening { server: number, asked, listener, is_inherited } in listeners {
            let planned = plan.servers[number].clone();
            let tls = serving.certificates.of(number).map(|certificates| certificates.tls.clone());
            let slot = serving.plugs[planned.handler].slot.clone();
            let options = planned.args.options(tls, &plan.process, traces);
            let server = Server::with_listener(listener, slot, options);
            let server = Arc::new(server.map_err(|error| planned.blame(error))?);
            let shutdown_timeout = planned.args.shutdown_timeout(&plan.process.log);
            serving.servers.push(Arc::new(ServedAddress {
                asked,
                server,
                planned,
                is_inherited,
                shutdown_timeout,
            }));
        }
        for bound in &serving.servers {
            bound.server.start().map_err(|error| bound.planned.blame(error))?;
        }
        let (bound, plugs) = (serving.servers.clone(), serving.plugs.clone());
        let serving = Arc::new(Mutex::new(serving));
        if let Some(membership) = membership {
            let (registry, executable, is_successor) =
                (registry.clone(), executable.clone(), predecessor.is_some());
            let joined =
                fleet::join(membership, &serving, Joining { registry, kept, executable, is_successor })?;
            // Who takes over serves what the process before it served, which waits for it.
            if predecessor.is_none() {
                joined.wait();
            }
        }
        for plug in &plugs {
            plug.slot.probe_current().map_err(|error| plug.planned.blame(error))?;
        }
        let control = plan.process.control.bind(predecessor.as_mut().and_then(Predecessor::control))?;
        for ServedAddress { server, .. } in bound.iter().map(|bound| &**bound) {
            let (handler, concurrency) = (server.handler().current(), &server.info().concurrency);
            let (address, name, digest) = (server.address(), handler.name(), handler.digest());
            let ready = format!("ready {address} {name} {digest} {concurrency}\n");
            if let Err(error) = std::io::stdout().write_all(ready.as_bytes()) {
                tracing::warn!("cannot write the ready line: {error}");
            }
        }
        metrics.iter().try_for_each(|metrics| telemetry::say(metrics))?;
        let servers: Vec<_> = bound.iter().map(|bound| bound.server.clone()).collect();
        let configured = config.map(|config| Configured::new(line, config, engine, plan));
        let mut running = Running::new(executable, log, registry, configured);
        running.serving = serving;
        // Known before anybody is served there: the first who comes may ask for an upgrade.
        running.control = control.as_ref().map(Arc::downgrade).unwrap_or_default();
        running.metrics = metrics.as_ref().map(Arc::downgrade).unwrap_or_default();
        running.traces = telemetry.traces.clone();
        match predecessor {
            None => running.supervisor.ready(),
            Some(predecessor) => predecessor
                .ready(&servers, control.as_deref(), metrics.as_deref())
                .context("cannot take over")?,
        }
        running.serve_until_signal(signals, control, telemetry)
    }
}

/// What a server of the plan will serve.
struct Listening {
    /// Its number.
    server: usize,
    asked: ServeAddress,
    listener: Listener,
    /// Whether somebody else bound it.
    is_inherited: bool,
}

/// Binds all addresses, or takes them over from the process before this one or whoever bound them before the start.
fn listen(
    plan: &Plan,
    inherited: Vec<Inherited>,
    mut predecessor: Option<&mut Predecessor>,
) -> anyhow::Result<Vec<Listening>> {
    let mut listening = Vec::new();
    let is_handed_some = predecessor.as_ref().is_some_and(|predecessor| predecessor.has_inherited());
    let is_bound_by_others = is_handed_some || !inherited.is_empty();
    for (server, planned) in plan.servers.iter().enumerate() {
        let options = planned.args.socket_options();
        for asked in plan.addresses(server, is_bound_by_others) {
            let handed = predecessor.as_mut().and_then(|predecessor| predecessor.socket(&asked));
            let listener = match handed {
                Some(handed) => {
                    Listener::take_over(handed, asked.server_type(), &options)?.with_tls(asked.is_tls())
                }
                None => Listener::bind(&asked, &options).map_err(|error| planned.blame(error))?,
            };
            listening.push(Listening { server, asked, listener, is_inherited: false });
        }
    }
    // What somebody else has bound, and nobody has asked for by its address, is the first server's.
    let (server, options) = (0, plan.servers[0].args.socket_options());
    for Inherited { socket, server_type, is_tls } in inherited {
        let listener = Listener::adopt(socket, server_type, &options)?.with_tls(is_tls);
        listening.push(Listening { server, asked: listener.address()?, listener, is_inherited: true });
    }
    for (asked, handed) in predecessor.into_iter().flat_map(Predecessor::inherited) {
        let listener = Listener::take_over(handed, asked.server_type(), &options)?.with_tls(asked.is_tls());
        listening.push(Listening { server, asked, listener, is_inherited: true });
    }
    Ok(listening)
}
