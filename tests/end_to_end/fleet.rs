//! Fleets: hosts and operators as processes, with a real NATS between them.

mod away;
mod bad_input;
mod cluster;
mod commands;
mod elsewhere;
mod mixed;
mod names;
mod nats;
mod page;
mod program;
mod rollout;
mod security;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ended, Host, plugsock, run, versioned, wait_until};
use nats::Nats;

/// The group of all hosts here.
const GROUP: &str = "web";

/// A NATS, and a directory for what hosts serve and keep.
struct Fleet {
    nats: Nats,
    /// The other servers of its cluster.
    others: Vec<Nats>,
    directory: TempDir,
}

impl Fleet {
    /// With short times, so that what is gone is soon known to be; `None` without a NATS server.
    fn start() -> Option<Self> {
        Self::start_with("3s")
    }

    /// Where the word of a host holds for so long.
    fn start_with(host_time: &str) -> Option<Self> {
        let fleet = Self { nats: Nats::start()?, others: Vec::new(), directory: TempDir::new().unwrap() };
        fleet.init(host_time);
        Some(fleet)
    }

    fn init(&self, host_time: &str) {
        done(self.command(&["init", "--host-time", host_time]));
        for name in ["one", "two", "six"] {
            fs::write(self.file(name), versioned(name)).unwrap();
        }
        fs::copy(self.file("one"), self.path("app.wasm")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The component of a version.
    fn file(&self, name: &str) -> String {
        self.path(&format!("{name}.wasm")).display().to_string()
    }

    fn url(&self) -> String {
        std::iter::once(&self.nats).chain(&self.others).map(Nats::url).collect::<Vec<_>>().join(",")
    }

    fn server(&mut self, number: usize) -> &mut Nats {
        std::iter::once(&mut self.nats).chain(&mut self.others).nth(number).unwrap()
    }

    /// A host that was told to serve `one`, in a slot `app`.
    fn host(&self, name: &str, args: &[&str]) -> Host {
        self.host_by(plugsock(), name, &[&["--fleet-trust-all"], args].concat())
    }

    fn host_by(&self, command: Command, name: &str, args: &[&str]) -> Host {
        let (url, app, cache) = (self.url(), self.file("app"), self.path("cache").display().to_string());
        let own = ["tcp://127.0.0.1:0", &app, "--fleet-host", name];
        let defaults = [["--cache-dir", &cache], ["--fleet", &url], ["--fleet-group", GROUP]];
        let others = defaults.iter().filter(|[option, _]| !args.contains(option));
        let others: Vec<&str> = others.flatten().copied().collect();
        // Of the two addresses one is NATS's.
        Host::serve_sockets(command, 1, &[&own, args, &others].concat())
    }

    fn hosts(&self, names: &[&str]) -> Vec<Host> {
        let hosts: Vec<Host> =
            names.iter().map(|name| self.host(name, &["--label", &format!("zone={name}")])).collect();
        self.wait_for_hosts(names.len());
        hosts
    }

    /// What hosts say of themselves, by their names.
    fn said_by_hosts(&self) -> Vec<Value> {
        self.json(&["hosts", "--group", GROUP]).as_array().unwrap().clone()
    }

    /// Waits until so many are known.
    fn wait_for_hosts(&self, count: usize) {
        wait_until(|| self.said_by_hosts().len() == count);
    }

    /// Runs `plugsock fleet`.
    fn command(&self, args: &[&str]) -> Ended {
        run(self.plugsock().args(args))
    }

    fn plugsock(&self) -> Command {
        let mut plugsock = plugsock();
        plugsock.arg("fleet").env("PLUGSOCK_FLEET", self.url());
        plugsock
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&done(self.command(&[args, &["--json"]].concat()))).unwrap()
    }

    /// How the only roll-out stands.
    fn summary(&self) -> Value {
        self.json(&["status", "--group", GROUP])[0].clone()
    }

    /// Begins a roll-out with a short gate.
    fn roll_out(&self, version: &str, args: &[&str]) -> Ended {
        self.command(
            &[&["rollout", &self.file(version), "--group", GROUP, "--gate", "errors>10%/1s"], args].concat(),
        )
    }

    /// Waits until a roll-out stands so.
    fn wait_for(&self, state: &str) -> Value {
        wait_until(|| self.summary()["state"] == state);
        self.summary()
    }
}

/// What a command says that succeeds.
fn done(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// The version that answers.
fn who(host: &Host) -> String {
    let answer = String::from_utf8(host.ask(b"who?\n")).unwrap();
    answer.strip_suffix(" who?\n").unwrap_or(&answer).to_owned()
}

fn all_serve(hosts: &[Host], version: &str) {
    for host in hosts {
        wait_until(|| who(host) == version);
    }
}
