//! Swaps lose nothing: clients in a process of their own ask all the time while the handler is swapped again
//! and again, on all four server types at once.
//!
//! With `PLUGSOCK_FULL_LOAD` set, each strategy is swapped every 100 ms for a minute.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{ServeAddress, ServerOptions, ServerType, Slot, Swapped};
use rustix::process::Signal;

use crate::harness::{
    Case, Client, Clients, Counted, Deployed, Host, Load, Running, for_each_strategy, sandbox, versioned,
};

/// The two versions that take turns.
const NAMES: [&str; 2] = ["one", "two"];

/// How much is done.
struct Scale {
    swaps: usize,
    /// From one swap to the next at least.
    period: Duration,
    /// Served between two swaps at least.
    requests_between: u64,
    /// Served in all at least.
    requests: u64,
}

impl Scale {
    /// So many swaps as soon as there were some requests, or the full form of it.
    fn of(strategy: &str, swaps: usize) -> Self {
        // Those that serve one at a time, or with a process each, take longer for as much.
        let is_slow = matches!(strategy, "sync" | "forking");
        let requests = if is_slow { 30 } else { 150 } * swaps as u64;
        if std::env::var_os("PLUGSOCK_FULL_LOAD").is_none() {
            return Self { swaps, period: Duration::ZERO, requests_between: 10, requests };
        }
        let requests = if is_slow { 10_000 } else { 30_000 };
        Self { swaps: 600, period: Duration::from_millis(100), requests_between: 0, requests }
    }
}

/// Has the handler at these addresses swapped under load, by what puts the version of a name in place, and
/// sees that every request was served, whole and by one version.
fn lose_nothing(strategy: &str, addresses: &[ServeAddress], scale: &Scale, mut swap: impl FnMut(&str)) {
    // A connection that stays would keep all others of `sync` waiting.
    let staying = if strategy == "sync" { 0 } else { 1 };
    let mut load = Load::start(addresses, &Clients { short: 2, long: 1, staying });
    load.wait_for(scale.requests_between);
    let started = Instant::now();
    for number in 1..=scale.swaps {
        let name = NAMES[number % 2];
        swap(name);
        for address in addresses {
            let answer = Client::ask(address, b"who?\n");
            assert_eq!(String::from_utf8_lossy(&answer), format!("{name} who?\n"), "after swap {number}");
        }
        load.wait_for(load.requests() + scale.requests_between);
        thread::sleep((scale.period * number as u32).saturating_sub(started.elapsed()));
    }
    load.wait_for(scale.requests);
    let Counted { requests, lines, failed, mixed, versions, failures } = load.finish();
    eprintln!(
        "{strategy}: {} swaps in {:.1?}; {requests} requests, {lines} lines: {failed} failed, {mixed} mixed; \
         by version {versions:?}",
        scale.swaps,
        started.elapsed()
    );
    assert_eq!((failed, mixed), (0, 0), "{failures}");
    assert!(versions.keys().eq(NAMES), "{versions:?}");
    assert!(requests >= scale.requests);
}

/// One test at a time puts load on the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// O1
#[test]
fn swaps_by_the_library_lose_nothing() {
    let _alone = ALONE.lock();
    let handlers = NAMES.map(|name| sandbox().load_bytes(name, &versioned(name)).unwrap());
    for_each_strategy(|strategy| {
        let slot = Slot::from(handlers[0].clone());
        let serve = |server_type| {
            Running::start_with(Case { server_type, strategy }, slot.clone(), ServerOptions::default())
        };
        let servers = ServerType::ALL.map(serve);
        servers.iter().for_each(|server| server.start().unwrap());
        let addresses = servers.each_ref().map(|server| server.address.clone());
        let mut last_generation = 1;
        lose_nothing(strategy, &addresses, &Scale::of(strategy, 20), |name| {
            let handler = handlers.iter().find(|handler| handler.name() == name).unwrap();
            let swapped = slot.swap(handler.clone()).unwrap();
            last_generation += 1;
            let digest = handler.digest().to_owned();
            assert_eq!(swapped, Swapped::Published { generation: last_generation, digest });
        });
    });
}

/// A host that serves all server types.
fn host(strategy: &str, deployed: &Deployed, args: &[&str]) -> Host {
    let [unix, unixgram] = ["unix", "unixgram"]
        .map(|scheme| format!("{scheme}://{}", deployed.directory().join(scheme).display()));
    let path = deployed.path();
    let serve = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &unix, &unixgram, &path];
    Host::serve(&[&serve[..], &["--concurrency", strategy], args].concat())
}

/// Puts the version of a name in the handler's place, and waits until the host says that it serves.
fn deploy(host: &Host, deployed: &Deployed, signal: Option<Signal>, name: &str) {
    let swapped = ": swapped: ";
    let before = host.log.lines_with(swapped).len();
    deployed.replace(&versioned(name));
    if let Some(signal) = signal {
        host.signal(signal);
    }
    host.log.wait_for_count(swapped, before + 1);
}

/// O1, O6
#[test]
fn swaps_by_sighup_lose_nothing() {
    let _alone = ALONE.lock();
    for_each_strategy(|strategy| {
        let deployed = Deployed::new(&versioned(NAMES[0]));
        let host = host(strategy, &deployed, &[]);
        lose_nothing(strategy, &host.addresses, &Scale::of(strategy, 6), |name| {
            deploy(&host, &deployed, Some(Signal::HUP), name);
        });
    });
}

/// O1
#[test]
fn swaps_by_ctl_lose_nothing() {
    let _alone = ALONE.lock();
    for_each_strategy(|strategy| {
        let deployed = NAMES.map(|name| Deployed::new(&versioned(name)));
        let host = host(strategy, &deployed[0], &[]);
        lose_nothing(strategy, &host.addresses, &Scale::of(strategy, 4), |name| {
            let number = NAMES.iter().position(|other| *other == name).unwrap();
            let swapped = host.ctl(&["swap", &deployed[number].path()]);
            assert_eq!(swapped.code, Some(0), "{swapped:?}");
        });
    });
}

/// O1
#[test]
fn swaps_of_a_watched_file_lose_nothing() {
    let _alone = ALONE.lock();
    for strategy in ["threading", "forking"] {
        let deployed = Deployed::new(&versioned(NAMES[0]));
        let host = host(strategy, &deployed, &["--watch"]);
        lose_nothing(strategy, &host.addresses, &Scale::of(strategy, 4), |name| {
            deploy(&host, &deployed, None, name);
        });
    }
}
