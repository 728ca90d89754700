//! A cluster of three NATS servers and five hosts under load, of which one or another fails in each roll-out.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Fleet, GROUP, Nats, done, who};
use crate::harness::{Clients, Host, Load, is_long_run, relabelled, stop, versioned, wait_until};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A host with clients of its own.
struct Loaded {
    name: &'static str,
    host: Host,
    load: Load,
}

impl Loaded {
    fn start(fleet: &Fleet, name: &'static str) -> Self {
        let host = fleet.host(name, &[]);
        let load = Load::start(&[host.address()], &Clients { short: 1, long: 1, staying: 0 });
        Self { name, host, load }
    }

    /// None of its requests was lost.
    fn finish(self) {
        let counted = self.load.finish();
        assert_eq!((counted.failed, counted.mixed), (0, 0), "{}: {counted:?}", self.name);
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The host that drives is killed.
    Driver,
    /// A server of NATS is killed.
    Nats(usize),
    /// A host stands still for longer than its word holds.
    Stopped(usize),
    /// A host is killed that may not be the one that drives.
    Host(usize),
}

#[test]
fn whatever_fails_all_hosts_come_to_serve_the_same() {
    let Some(mut fleet) = cluster() else { return };
    let mut hosts: Vec<Loaded> = NAMES.iter().map(|name| Loaded::start(&fleet, name)).collect();
    fleet.wait_for_hosts(NAMES.len());
    let rounds = if is_long_run() { 50 } else { 3 };
    let mut serving = "one";
    for round in 0..rounds {
        let trouble = match round % 4 {
            0 => Trouble::Driver,
            1 => Trouble::Nats(round % 3),
            2 => Trouble::Stopped(round % NAMES.len()),
            _ => Trouble::Host(round % NAMES.len()),
        };
        let next = if serving == "two" { "six" } else { "two" };
        let component = relabelled(versioned(next), &format!("round {round}"));
        fs::write(fleet.file("next"), component).unwrap();
        done(fleet.roll_out("next", &["--stages", "1,2,all"]));
        wait_until(|| fleet.summary()["stage"] == 1);
        disturb(&mut fleet, &mut hosts, trouble);
        let state = settled(&fleet);
        if state == "complete" {
            serving = next;
        }
        mend(&mut fleet, &mut hosts, trouble);
        for loaded in &hosts {
            wait_until(|| who(&loaded.host) == serving);
        }
        wait_until(|| fleet.summary()["eligible"] == NAMES.len());
        println!("round {round}: {trouble:?}: {state}");
    }
    hosts.into_iter().for_each(Loaded::finish);
}

/// With three servers, that each keep all.
fn cluster() -> Option<Fleet> {
    // They must know each other's ports before any of them is there.
    let ports = [(); 3]
        .map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|socket| socket.local_addr().unwrap().port());
    let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
    let mut servers = ports.into_iter().enumerate().map(|(number, port)| {
        let cluster = format!("cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
        Nats::configured(|_| format!("server_name: n{number}\n{cluster}\n"))
    });
    let nats = servers.next()??;
    let others = servers.collect::<Option<Vec<Nats>>>()?;
    let fleet = Fleet { nats, others, directory: TempDir::new().unwrap() };
    // As soon as they have elected who leads.
    wait_until(|| fleet.command(&["init", "--host-time", "3s", "--replicas", "3"]).code == Some(0));
    fleet.init("3s");
    Some(fleet)
}

fn disturb(fleet: &mut Fleet, hosts: &mut [Loaded], trouble: Trouble) {
    match trouble {
        Trouble::Driver => {
            let is_driver = |loaded: &Loaded, name: &str| loaded.name == name;
            let driver = || fleet.summary()["driver"].as_str().map(str::to_owned);
            wait_until(|| driver().is_some() || fleet.summary()["state"] != "running");
            let driver = driver().unwrap_or_else(|| NAMES[0].to_owned());
            kill(hosts.iter().find(|loaded| is_driver(loaded, &driver)).unwrap());
        }
        Trouble::Nats(number) => fleet.server(number).kill(),
        Trouble::Stopped(number) => stop(hosts[number].host.pid()),
        Trouble::Host(number) => kill(&hosts[number]),
    }
}

fn kill(loaded: &Loaded) {
    loaded.host.signal(Signal::KILL);
    loaded.host.wait_for_exit();
}

/// Waits for the end of a roll-out, while never more hosts have the target than a stage is for, and one that failed.
fn settled(fleet: &Fleet) -> String {
    for _ in 0..300 {
        // NATS may be electing.
        let summary = || {
            let ended = fleet.command(&["status", "--group", GROUP, "--json"]);
            let all: Option<serde_json::Value> =
                (ended.code == Some(0)).then(|| serde_json::from_str(&ended.stdout).unwrap());
            all.map(|all| all[0].clone())
        };
        // In this order: stages only grow.
        if let (Some(earlier), Some(later)) = (summary(), summary()) {
            let bound = [0, 1, 2, NAMES.len() as u64][later["stage"].as_u64().unwrap() as usize];
            assert!(earlier["taken"].as_u64().unwrap() <= bound + 1, "{earlier} {later}");
            if let state @ ("complete" | "failed") = later["state"].as_str().unwrap() {
                return state.to_owned();
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("it comes to no end: {}", fleet.summary());
}

/// Has all be there again.
fn mend(fleet: &mut Fleet, hosts: &mut [Loaded], trouble: Trouble) {
    match trouble {
        Trouble::Nats(number) => fleet.server(number).restart(),
        Trouble::Stopped(number) => hosts[number].host.signal(Signal::CONT),
        Trouble::Driver | Trouble::Host(_) => {}
    }
    for loaded in hosts {
        if !crate::harness::is_running(loaded.host.pid()) {
            *loaded = Loaded::start(fleet, loaded.name);
        }
    }
}
