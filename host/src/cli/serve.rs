//! `plugsock serve`: binds addresses and serves them with a handler until a signal.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use plugsock::surroundings;
use plugsock::upgrade::Predecessor;
use plugsock::{
    Concurrency, Listener, ServeAddress, Server, ServerOptions, SocketOptions, UnixSocketOptions,
};

use super::capacity;
use super::clients::ClientArgs;
use super::control::ControlArgs;
use super::executable;
use super::handler_source::HandlerSource;
use super::helper_process::HelperProcess;
use super::http::HttpArgs;
use super::inherited::{self, Inherited};
use super::log::LogOptions;
use super::options::{SandboxArgs, Time, parse_count, parse_time};
use super::privileges::{PrivilegeArgs, parse_group, parse_user};
use super::registry::RegistryArgs;
use super::running::{Running, ServedAddress};
use super::signals;
use super::swapping::SwapArgs;
use super::targets::{Target, default_address, sort_targets};
use super::telemetry::{self, TelemetryArgs};
use super::tls::{Certificates, TlsArgs};

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
    targets: Vec<String>,

    /// The handler, if not given among the addresses
    #[arg(long, value_name = "FILE|oci://…", value_parser = HandlerSource::parser())]
    handler: Option<HandlerSource>,

    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    swapping: SwapArgs,
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    privileges: PrivilegeArgs,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    log: LogOptions,
}

const EXAMPLES: &str = "Examples:
  plugsock serve
  plugsock serve tcp://[::]:7 echo.wasm --concurrency pool --workers 8
  plugsock serve udp://:5353 tcp://:5353 dns.wasm --dir ./zones::/zone
  plugsock serve unix:///run/upper.sock upper.wasm --mode 660
  plugsock serve tcp://:7 udp://:7 echo.wasm tcp://:79 finger.wasm --watch
  plugsock serve tls://:7443 echo.wasm --tls example=example.crt,example.key
  plugsock serve tcp://:7 oci://cr.example/acme/echo:1 --public-key release.pub

Sockets that systemd passes (LISTEN_FDS) are served as well, each as what it is, by the first handler; those that it names
'tls' (FileDescriptorName=) with TLS. Where there is a
NOTIFY_SOCKET, the supervisor is told of the start, of reloads, of the end, and of the process that takes over.

Signals: the first SIGINT or SIGTERM stops accepting and lets open requests end; a second exits at once.
SIGHUP loads the handlers again; the old versions serve until the new ones are ready, and on if they are
not fit. SIGUSR2 starts the executable on disk anew with the same sockets and, when that is ready, ends this
process as SIGTERM does.";

#[derive(Args, Debug)]
#[command(next_help_heading = "Serving")]
struct ServingArgs {
    /// Where requests are served: sync, threading, forking, pool or async
    #[arg(long, value_name = "STRATEGY", default_value = "threading")]
    concurrency: Concurrency,

    /// Threads that serve, for pool (default: 4 a core) and async (default: 1 a core)
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    workers: Option<usize>,

    /// forking: how many processes may serve at once
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = parse_count)]
    max_children: usize,

    /// threading: do not wait at the end for threads that still serve
    #[arg(long)]
    daemon_threads: bool,

    /// threading, forking: do not wait at the end for open requests
    #[arg(long)]
    no_block_on_close: bool,

    /// Run the handler's `handle-timeout` hook after so long without a request (forking: 5m where none is given)
    #[arg(long, value_name = "TIME", default_value = "none", value_parser = parse_time)]
    timeout: Time,

    /// How long open requests may go on after the first signal; the rest are cut off
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    shutdown_timeout: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Sockets")]
struct SocketArgs {
    /// Connections that may wait in the kernel to be accepted
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    request_queue_size: u32,

    /// Bind a TCP address that closed connections still occupy
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    reuse_address: bool,

    /// Let several servers share an address (SO_REUSEPORT)
    #[arg(long)]
    reuse_port: bool,

    /// Let [::] leave IPv4 alone
    #[arg(long)]
    ipv6_only: bool,

    /// The largest datagram that is served; larger ones are dropped and logged
    #[arg(long, value_name = "BYTES", default_value_t = 8192, value_parser = clap::value_parser!(u16))]
    max_packet_size: u16,

    /// Permission bits of a Unix socket's file, in octal
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,

    /// Owner of a Unix socket's file, by name or id
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    owner: Option<u32>,

    /// Group of a Unix socket's file, by name or id
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    group: Option<u32>,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("write permission bits in octal, as in 660".to_owned()),
    }
}

impl Serve {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        surroundings::settle();
        if let Err(error) = surroundings::reap_adopted() {
            anyhow::bail!("cannot reap the processes that come to this one: {error}");
        }
        self.serve()
    }

    /// Serves, once this process is settled in its surroundings.
    pub fn serve(self) -> anyhow::Result<ExitCode> {
        let targets = sort_targets(&self.targets, self.handler).unwrap_or_else(|error| error.exit());
        let log = self.log.init_to_serve()?;
        plugsock::become_helper_process_if_asked();
        capacity::check()?;
        let inherited = inherited::take()?;
        // Before anything is bound, so that no signal finds the default disposition.
        let signals = signals::catch()?;
        let name = targets[0].handler.to_string();
        let is_forking = matches!(self.serving.concurrency, Concurrency::Forking { .. });
        self.sandbox.check_stdin(is_forking)?;
        let max_children = if is_forking { self.serving.max_children } else { 0 };
        capacity::prepare(self.sandbox.max_requests(), max_children);
        let mut predecessor = Predecessor::take_over().context("cannot take over")?;
        // What root may be needed for comes first. Handlers are loaded by whom they are served by.
        let certificates = self.tls.load()?;
        let tls = certificates.as_ref().map(|certificates| certificates.tls.clone());
        if let (Some(tls), Some(predecessor)) = (&tls, &mut predecessor) {
            predecessor.resume_sessions(tls);
        }
        let listeners = listen(&targets, inherited, predecessor.as_mut(), &self.socket.options())?;
        let metrics = self.telemetry.bind(predecessor.as_mut())?;
        let home = self.privileges.drop()?;
        let registry = self.registry.registry(home.as_deref());
        let sandbox = match home {
            Some(home) => self.sandbox.with_cache_below(&home),
            None => self.sandbox,
        };
        let concurrency = self.serving.concurrency(&self.log);
        capacity::check_threads(listeners.len(), &concurrency)?;
        let most_requests = match sandbox.keeps_instances() {
            // They have places in the pools, too, perhaps those of two versions.
            true => usize::MAX,
            false => concurrency.capacity().saturating_mul(listeners.len()),
        };
        let sandbox = sandbox.for_requests(most_requests).sandbox(&name, &self.log)?;
        let shutdown_timeout = self.serving.shutdown_timeout(&concurrency);
        let (servers, plugs) = (Vec::new(), Vec::new());
        let executable = executable::path().context("cannot tell where this program lies")?;
        let (control, upgrading, supervisor) = Default::default();
        let metrics_socket = metrics.as_ref().map(Arc::downgrade).unwrap_or_default();
        let mut running = Running {
            servers,
            plugs,
            registry,
            shutdown_timeout,
            certificates,
            executable,
            log,
            control,
            metrics: metrics_socket,
            upgrading,
            supervisor,
        };
        for target in targets {
            running.plug(&sandbox, target.handler, self.swapping.slot_options(), predecessor.as_ref())?;
        }
        for Listening { target, asked, listener } in listeners {
            let options = ServerOptions {
                concurrency: concurrency.clone(),
                timeout: self.serving.timeout.0,
                clients: self.clients.limits(),
                tls: tls.clone(),
                http: self.http.options(),
                socket: self.socket.options(),
                measure: self.telemetry.is_wanted(),
                ..ServerOptions::default()
            };
            let server = Server::with_listener(listener, running.plugs[target].slot.clone(), options)?;
            running.servers.push(ServedAddress { asked, server: Arc::new(server) });
        }
        for ServedAddress { server, .. } in &running.servers {
            server.start()?;
        }
        for plug in &running.plugs {
            plug.slot.probe_current()?;
        }
        let telemetry = self.telemetry.prepare(metrics.clone())?;
        let control = self.control.bind(predecessor.as_mut().and_then(Predecessor::control))?;
        // Known before anybody is served there: the first who comes may ask for an upgrade.
        running.control = control.as_ref().map(Arc::downgrade).unwrap_or_default();
        for ServedAddress { server, .. } in &running.servers {
            let (handler, concurrency) = (server.handler().current(), &server.info().concurrency);
            let (address, name, digest) = (server.address(), handler.name(), handler.digest());
            let ready = format!("ready {address} {name} {digest} {concurrency}\n");
            if let Err(error) = std::io::stdout().write_all(ready.as_bytes()) {
                tracing::warn!("cannot write the ready line: {error}");
            }
        }
        metrics.iter().try_for_each(|metrics| telemetry::say(metrics))?;
        match predecessor {
            None => running.supervisor.ready(),
            Some(predecessor) => {
                let servers: Vec<_> = running.servers.iter().map(|bound| bound.server.clone()).collect();
                predecessor
                    .ready(&servers, control.as_deref(), metrics.as_deref())
                    .context("cannot take over")?;
            }
        }
        if self.swapping.watch {
            running.watch(self.swapping.registry_poll)?;
        }
        running.certificates.iter().try_for_each(Certificates::watch)?;
        running.serve_until_signal(signals, control, telemetry)
    }
}

/// What a target's handler will serve.
struct Listening {
    /// Its number among the targets.
    target: usize,
    asked: ServeAddress,
    listener: Listener,
}

/// Binds all addresses, or takes them over from the process before this one or whoever bound them before the start.
fn listen(
    targets: &[Target],
    inherited: Vec<Inherited>,
    mut predecessor: Option<&mut Predecessor>,
    options: &SocketOptions,
) -> anyhow::Result<Vec<Listening>> {
    let mut listening = Vec::new();
    for (target, asked) in targets
        .iter()
        .enumerate()
        .flat_map(|(number, target)| target.addresses.iter().map(move |at| (number, at)))
    {
        let handed = predecessor.as_mut().and_then(|predecessor| predecessor.socket(asked));
        let listener = match handed {
            Some(handed) => {
                Listener::take_over(handed, asked.server_type(), options)?.with_tls(asked.is_tls())
            }
            None => Listener::bind(asked, options)?,
        };
        listening.push(Listening { target, asked: asked.clone(), listener });
    }
    // What nobody has asked for by its address is the first handler's.
    for Inherited { socket, server_type, is_tls } in inherited {
        let listener = Listener::adopt(socket, server_type, options)?.with_tls(is_tls);
        listening.push(Listening { target: 0, asked: listener.address()?, listener });
    }
    for (asked, handed) in predecessor.into_iter().flat_map(Predecessor::rest) {
        let listener = Listener::take_over(handed, asked.server_type(), options)?.with_tls(asked.is_tls());
        listening.push(Listening { target: 0, asked, listener });
    }
    if listening.is_empty() {
        let asked = default_address();
        listening.push(Listening { target: 0, listener: Listener::bind(&asked, options)?, asked });
    }
    Ok(listening)
}

impl ServingArgs {
    fn concurrency(&self, log: &LogOptions) -> Concurrency {
        let concurrency = match self.concurrency {
            Concurrency::Forking { .. } => Concurrency::Forking {
                max_children: self.max_children,
                block_on_close: !self.no_block_on_close,
                arguments: HelperProcess::arguments(log),
            },
            Concurrency::Threading { .. } => Concurrency::Threading {
                daemon_threads: self.daemon_threads,
                block_on_close: !self.no_block_on_close,
            },
            ref other => other.clone(),
        };
        match self.workers {
            Some(workers) => concurrency.with_workers(workers),
            None => concurrency,
        }
    }

    fn shutdown_timeout(&self, concurrency: &Concurrency) -> Duration {
        if concurrency.waits_on_close() { self.shutdown_timeout } else { Duration::ZERO }
    }
}

impl SocketArgs {
    fn options(&self) -> SocketOptions {
        SocketOptions {
            request_queue_size: self.request_queue_size,
            allow_reuse_address: self.reuse_address,
            allow_reuse_port: self.reuse_port,
            ipv6_only: self.ipv6_only,
            max_packet_size: self.max_packet_size.into(),
            unix: UnixSocketOptions { mode: self.mode, owner: self.owner, group: self.group },
        }
    }
}
