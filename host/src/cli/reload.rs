//! Applies what has changed in the configuration while all goes on: as a whole or not at all. All that may fail is done
//! first, beside what serves; what follows cannot fail.
//!
//! ```text
//!  read ─▶ what needs a restart? ─▶ load, bind, start threads ─▶ versions ready │ publish ─▶ new servers accept ─▶ old ones end
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{anyhow, bail};
use crossbeam::channel::Sender;
use plugsock::control::{EventKind, emit};
use plugsock::{
    BindError, Listener, LoadedAgain, Ready, Sandbox, ServeAddress, Server, Slot, SlotOptions, SwapOptions,
    Swapped,
};

use super::config::layers::{CommandLine, Setting};
use super::plan::{Plan, PlannedCertificates, PlannedHandler, PlannedServer, differences};
use super::registry::Registry;
use super::running::{Plug, Running, ServedAddress, Serving};
use super::tls::Certificates;
use super::watch::{Files, Seen, watch};

/// What a reload begins with.
pub struct Configured {
    line: CommandLine,
    file: PathBuf,
    /// Its pools are as large as they were made at the start.
    engine: Sandbox,
    /// What is served now. Held while it changes.
    plan: Mutex<Plan>,
    /// What the file was when it was last looked at.
    seen: Seen,
}

/// Options of a server that its socket was bound with.
const BOUND: [&str; 6] = ["reuse-address", "reuse-port", "ipv6-only", "mode", "owner", "group"];

/// What a server can be told without another in its place: the rules for clients, but for the one that accepting begins with.
fn is_live(setting: &Setting) -> bool {
    (setting.table == "clients" && setting.key != "proxy-protocol") || setting.key == "shutdown-timeout"
}

/// A configuration's file, and what that was when it was last looked at.
pub struct ConfigFile {
    file: PathBuf,
    seen: Seen,
}

impl ConfigFile {
    /// Looks at it, before it is read: what changes it from then on is noticed.
    pub fn look(file: &Path) -> Self {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let seen = Arc::new(Mutex::new(Some(Files::all(vec![file.clone()]).look())));
        Self { file, seen }
    }
}

impl Configured {
    pub fn new(line: CommandLine, file: ConfigFile, engine: Sandbox, plan: Plan) -> Self {
        let ConfigFile { file, seen } = file;
        Self { line, file, engine, plan: Mutex::new(plan), seen }
    }

    /// Reloads whenever the file has changed.
    pub fn watch(&self, running: &Arc<Running>) -> anyhow::Result<()> {
        let running = Arc::downgrade(running);
        watch(Files::all(vec![self.file.clone()]), &self.seen, move || {
            if let Some(running) = running.upgrade() {
                let _reloading = running.supervisor.reloading();
                let _ = running.reload();
            }
        })
    }
}

impl Running {
    /// Loads all again, and says in the log and to whoever asked what has changed, or why nothing has.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        emit(|| EventKind::Reloading {});
        self.log.reopen();
        let Some(configured) = &self.configured else { return Ok(self.reload_files()) };
        match self.reconfigure(configured) {
            Ok(changes) => {
                changes.iter().for_each(|change| tracing::info!("reloaded: {change}"));
                if changes.is_empty() {
                    tracing::info!("reloaded: nothing has changed");
                }
                Ok(changes)
            }
            Err(error) => {
                let lines = super::error_lines(&error).join("; ");
                tracing::error!("not reloaded, all is as it was: {lines}");
                Err(format!("all is as it was: {lines}"))
            }
        }
    }

    fn reconfigure(&self, configured: &Configured) -> anyhow::Result<Vec<String>> {
        let mut current = configured.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plan = Plan::make(&configured.line, Some(&configured.file), &[])?;
        plan.check()?;
        let log_filter = self.check_process(&current, &plan)?;
        // What was settled when the process began.
        plan.process.engine = current.process.engine.clone();
        let (before, servers, certificates) = {
            let serving = self.serving();
            (serving.plugs.clone(), serving.servers.clone(), serving.certificates.clone())
        };
        let mut changes: Vec<String> = Vec::new();
        let renewed: Vec<LoadedAgain> = certificates
            .loaded()
            .map(|certificates| certificates.tls.load_again())
            .collect::<Result<_, _>>()?;
        let known = certificates.loaded().count();
        let certificates = plan.certificates(&certificates)?;
        let plugs = next_plugs(configured, &plan, &self.registry, &before)?;
        let next = NextServers::prepare(self, &plan, &plugs, &certificates, &servers)?;
        // Only now: a server that starts to serve a slot waits for whoever has made a version of it ready.
        let mut ready: Vec<Ready<'_>> = Vec::new();
        for plug in &plugs {
            let options = SlotOptions { name: None, ..plug.planned.args.swapping.slot_options() };
            let handler = || plug.handler();
            match before.iter().any(|old| old.slot.name() == plug.slot.name()) {
                true => {
                    let handler = handler().map_err(|error| plug.planned.blame(error))?;
                    let made = plug.slot.ready(handler, SwapOptions::default(), options);
                    ready.push(made.map_err(|error| plug.planned.blame(error))?);
                }
                false => plug.slot.probe_current().map_err(|error| plug.planned.blame(error))?,
            }
        }
        let mut serving = self.serving();
        if serving.is_closing {
            bail!("this process is about to end");
        }
        // From here on nothing fails.
        let old = before.iter().filter(|old| !plugs.iter().any(|plug| plug.slot.name() == old.slot.name()));
        changes.extend(old.map(|old| format!("handler {} is gone", old.slot.name())));
        let new = plugs.iter().filter(|plug| !before.iter().any(|old| old.slot.name() == plug.slot.name()));
        changes.extend(new.map(|new| format!("handler {} is new", new.slot.name())));
        let existing = plugs.iter().filter_map(|plug| {
            before.iter().find(|old| old.slot.name() == plug.slot.name()).map(|old| (old, plug))
        });
        for (ready, (old, plug)) in ready.into_iter().zip(existing) {
            let keys = keys_of(&differences(&old.planned.settings, &plug.planned.settings));
            let swapped = ready.publish();
            if let (Swapped::Published { .. }, _) | (_, false) = (&swapped, keys.is_empty()) {
                let what =
                    if keys.is_empty() { "is another".to_owned() } else { format!("has another {keys}") };
                changes.push(format!("handler {} {what}", plug.slot.name()));
            }
        }
        renewed.into_iter().for_each(LoadedAgain::put);
        if let Some(filter) = log_filter
            && self.log.set_filter(&filter).is_ok()
        {
            changes.push(format!("what is logged is {filter}"));
        }
        let watched: Vec<Plug> = plugs
            .iter()
            .filter(|plug| !before.iter().any(|old| old.is_watched_like(plug)))
            .cloned()
            .collect();
        let fresh: Vec<Certificates> = certificates.loaded().skip(known).cloned().collect();
        serving.plugs = plugs;
        serving.certificates = certificates;
        next.put(self, &mut serving, &mut changes);
        drop(serving);
        // What cannot be watched serves all the same.
        let watching = watched
            .iter()
            .try_for_each(Plug::watch)
            .and_then(|()| fresh.iter().try_for_each(Certificates::watch));
        if let Err(error) = watching {
            tracing::error!("changes of files are not noticed: {error:#}");
        }
        *current = plan;
        Ok(changes)
    }

    /// Refuses what this process cannot become; the log's filter, if it is another.
    fn check_process(&self, current: &Plan, plan: &Plan) -> anyhow::Result<Option<String>> {
        let changed = differences(&current.process_settings, &plan.process_settings);
        let (live, fixed): (Vec<&Setting>, Vec<&Setting>) =
            changed.into_iter().partition(|setting| setting.key == "log-level");
        if !fixed.is_empty() {
            bail!("it takes a restart to change {}", keys_of(&fixed));
        }
        Ok(live.first().and_then(|setting| setting.values.first().cloned()))
    }
}

/// Their names, as the file has them.
fn keys_of(settings: &[&Setting]) -> String {
    settings.iter().map(|setting| setting.key.as_str()).collect::<Vec<_>>().join(", ")
}

/// The plan's handlers: in the slots that they have, and loaded into new ones where there is none of their name.
fn next_plugs(
    configured: &Configured,
    plan: &Plan,
    registry: &Registry,
    before: &[Plug],
) -> anyhow::Result<Vec<Plug>> {
    let next = |planned: &PlannedHandler| {
        let Some(old) = before.iter().find(|old| old.slot.name() == planned.name) else {
            return Plug::load(planned.sandbox(&configured.engine)?, planned, registry, None);
        };
        let may_do = |planned: &PlannedHandler| -> Vec<Vec<String>> {
            let of_guest = planned.settings.iter().filter(|setting| setting.table != "swapping");
            of_guest.map(|setting| setting.values.clone()).collect()
        };
        // By the same sandbox a slot knows that its handler is the same.
        let is_same = may_do(&old.planned) == may_do(planned) && old.planned.source == planned.source;
        let sandbox = if is_same { old.sandbox.clone() } else { planned.sandbox(&configured.engine)? };
        if is_same && old.planned.args.swapping.watch == planned.args.swapping.watch {
            return Ok(old.planned_as(planned));
        }
        Ok(old.told(planned, sandbox))
    };
    let blamed = |planned: &PlannedHandler| next(planned).map_err(|error| planned.blame(error));
    plan.handlers.iter().map(blamed).collect()
}

/// Why a server cannot be had: perhaps for one that this process has and that would only go with it.
fn not_bound(asked: &ServeAddress, before: &[Arc<ServedAddress>], error: BindError) -> anyhow::Error {
    match before.iter().map(|old| old.server.address()).find(|old| old.has_port_of(asked)) {
        Some(old) => anyhow!("it takes a restart to serve {asked} in the place of {old}: {error}"),
        None => error.into(),
    }
}

/// What becomes of the servers.
struct NextServers {
    next: Vec<Next>,
    removed: Vec<Arc<ServedAddress>>,
}

struct Next {
    bound: Arc<ServedAddress>,
    how: How,
}

enum How {
    Kept,
    /// With other rules for clients.
    Told(String),
    /// In the place of another, or new; it accepts when something is sent.
    Started {
        old: Option<Arc<ServedAddress>>,
        go: Sender<()>,
        keys: String,
    },
}

impl NextServers {
    fn prepare(
        running: &Running,
        plan: &Plan,
        plugs: &[Plug],
        certificates: &PlannedCertificates,
        before: &[Arc<ServedAddress>],
    ) -> anyhow::Result<Self> {
        let mut old: Vec<Arc<ServedAddress>> = before.to_vec();
        let is_bound_by_others = before.iter().any(|old| old.is_inherited);
        let mut next = Vec::new();
        for (number, planned) in plan.servers.iter().enumerate() {
            let slot = &plugs[planned.handler].slot;
            let tls = certificates.of(number).map(|certificates| certificates.tls.clone());
            let options = || planned.args.options(tls.clone(), &plan.process, running.traces.as_ref());
            let mut olds: Vec<Option<Arc<ServedAddress>>> = Vec::new();
            let mut asked = plan.addresses(number, is_bound_by_others);
            for asked in &asked {
                let found = old.iter().position(|old| !old.is_inherited && old.asked == *asked);
                olds.push(found.map(|at| old.remove(at)));
            }
            if number == 0 {
                // What somebody else has bound is the first server's, as at the start.
                let (inherited, others) = old.into_iter().partition(|old| old.is_inherited);
                old = others;
                for bound in inherited {
                    asked.push(bound.asked.clone());
                    olds.push(Some(bound));
                }
            }
            for (asked, old) in asked.into_iter().zip(olds) {
                let is_inherited = old.as_ref().is_some_and(|old| old.is_inherited);
                let bound = |server| {
                    let shutdown_timeout = planned.args.shutdown_timeout(&plan.process.log);
                    let (asked, planned) = (asked.clone(), planned.clone());
                    Arc::new(ServedAddress { asked, server, planned, is_inherited, shutdown_timeout })
                };
                let (server, keys) = match &old {
                    None => {
                        let options = options();
                        let listener = Listener::bind(&asked, &options.socket)
                            .map_err(|error| planned.blame(not_bound(&asked, before, error)))?;
                        let server = Server::with_listener(listener, slot.clone(), options);
                        (server.map_err(|error| planned.blame(error))?, String::new())
                    }
                    Some(old) => match Change::of(old, planned, slot)? {
                        Change::Nothing => {
                            next.push(Next { bound: bound(old.server.clone()), how: How::Kept });
                            continue;
                        }
                        Change::Live(keys) => {
                            next.push(Next { bound: bound(old.server.clone()), how: How::Told(keys) });
                            continue;
                        }
                        Change::Server(keys) => (old.server.successor(slot.clone(), options())?, keys),
                    },
                };
                let bound = bound(Arc::new(server));
                bound.server.start().map_err(|error| planned.blame(error))?;
                let go = running.accepting.start(bound.clone())?;
                next.push(Next { bound, how: How::Started { old, go, keys } });
            }
        }
        Ok(Self { next, removed: old })
    }

    fn put(self, running: &Running, serving: &mut Serving, changes: &mut Vec<String>) {
        let mut servers = Vec::new();
        for Next { bound, how } in self.next {
            let address = bound.server.address();
            match how {
                How::Kept => {}
                How::Told(keys) => {
                    bound.server.set_clients(bound.planned.args.client_limits());
                    changes.push(format!("{address} has another {keys}"));
                }
                How::Started { old, go, keys } => match old {
                    Some(old) => {
                        old.server.give_way(&bound.server);
                        changes.push(format!("{address} has another {keys}"));
                        serving.ending.push(old.clone());
                        let _ = go.send(());
                        running.end(old, false);
                    }
                    None => {
                        changes.push(format!("{address} is new"));
                        let _ = go.send(());
                    }
                },
            }
            servers.push(bound);
        }
        for old in self.removed {
            changes.push(format!("{} is gone", old.server.address()));
            serving.ending.push(old.clone());
            running.end(old, true);
        }
        serving.servers = servers;
    }
}

/// What is different of a server.
enum Change {
    Nothing,
    /// What it can be told.
    Live(String),
    /// What takes another server on its socket.
    Server(String),
}

impl Change {
    fn of(old: &ServedAddress, planned: &PlannedServer, slot: &Slot) -> anyhow::Result<Self> {
        let changed = differences(&old.planned.settings, &planned.settings);
        let bound: Vec<&Setting> =
            changed.iter().copied().filter(|setting| BOUND.contains(&setting.key.as_str())).collect();
        if !bound.is_empty() {
            let address = old.server.address();
            bail!("it takes a restart to change {} of {address}, since its socket is bound", keys_of(&bound));
        }
        let has_other_handler = old.server.handler().name() != slot.name();
        let keys = keys_of(&changed);
        Ok(if has_other_handler {
            Self::Server(if keys.is_empty() { "handler".to_owned() } else { format!("handler, {keys}") })
        } else if changed.is_empty() {
            Self::Nothing
        } else if changed.iter().all(|setting| is_live(setting)) {
            Self::Live(keys)
        } else {
            Self::Server(keys)
        })
    }
}
