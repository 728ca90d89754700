//! Everything at once: good clients, bad clients and bad handlers, on every strategy and server type, while the
//! good handler is swapped. `.ci/soak` runs it for ten minutes; here it is short.

mod clients;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use plugsock::ServeAddress;
use rustix::process::Signal;

use crate::harness::{Client, Host, STRATEGIES, canary, guest, pattern, plugin};
use report::{Holdings, Report, Tally};

/// How long it runs in all, in seconds, unless this variable says otherwise.
const SECONDS: &str = "PLUGSOCK_SOAK_SECONDS";
const SHORT: u64 = 10;

/// Handlers that do their worst: every request to one of them ends by a limit, a trap or an error.
const WORST: [&str; 8] = [
    "hostile",
    "loop_forever",
    "loop_in_setup",
    "memory_bomb",
    "deep_recursion",
    "flood_output",
    "trap_in_handle",
    "error_in_finish",
];

/// Not asked for in a short run: it lasts until the time of its request is over.
const SLEEPER: &str = "sleep_forever";

/// What `hostile` is asked for.
const HARMS: [&str; 14] = [
    "loop",
    "fill memory",
    "take memory",
    "call the host",
    "print",
    "print bytes",
    "poll nothing",
    "random",
    "open streams",
    "subscribe",
    "write",
    "long error",
    "long panic",
    "exit",
];

const LIMITS: [&str; 14] = [
    "--request-time",
    "20s",
    "--cpu-time",
    "300ms",
    "--idle-timeout",
    "20s",
    "--memory",
    "16MiB",
    // Good clients share a source.
    "--max-connections-per-ip",
    "16",
    "--workers",
    "16",
    "--log-level",
    "info,guest=off",
];

/// Versions of the good handler that answer alike. The host begins with the first.
const VERSIONS: [fn() -> String; 2] = [|| plugin("echo"), || guest("streams_echo")];

/// How long a version stays.
const SWAP_EVERY: Duration = Duration::from_millis(300);

/// The pass mark: no good client goes without its answer, and afterwards the host holds no more than before.
#[test]
fn good_clients_are_served_whatever_others_do() {
    let seconds = std::env::var(SECONDS).map_or(SHORT, |seconds| seconds.parse().expect(SECONDS));
    let each = Duration::from_secs(seconds) / STRATEGIES.len() as u32;
    for strategy in STRATEGIES {
        let report = soak(strategy, each);
        eprintln!("{report}");
        assert!(report.tally.failures().is_empty(), "good clients of {strategy} were not served: {report}");
        assert!(report.before.bounds(&report.after), "{strategy} has grown: {report}");
    }
}

/// One host, and what is done to it.
struct Soak {
    strategy: &'static str,
    host: Host,
    /// The file of the good handler.
    file: PathBuf,
    tally: Tally,
    /// By how much good clients wait longer than for a plain echo; shortest first.
    longer: Mutex<Vec<Duration>>,
    is_over: AtomicBool,
}

fn soak(strategy: &'static str, time: Duration) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let soak = Soak::start(strategy, time, directory.path());
    soak.good().iter().for_each(|address| assert_eq!(Client::ask(address, b"warm"), b"warm"));
    // Every server serves by now.
    soak.worst().iter().for_each(|address| drop(clients::ask_and_wait(address, "nothing")));
    let start = Holdings::of(&soak.host);
    // What is filled once, on first use, is no growth.
    soak.load(time / 4);
    let before = Holdings { memory: soak.host.memory(), ..start };
    soak.load(time - time / 4);
    let after = before.wait_for(&soak.host);
    let longer = soak.longer.into_inner().unwrap();
    let refused = soak.host.status().servers.iter().map(|server| server.refused.total()).sum();
    if !soak.tally.failures().is_empty() {
        eprintln!("log of the host:\n{}", soak.host.log.text());
    }
    Report { strategy, time, before, after, tally: soak.tally, refused, longer }
}

impl Soak {
    fn start(strategy: &'static str, time: Duration, directory: &Path) -> Self {
        let file = directory.join("good.wasm");
        fs::copy(VERSIONS[0](), &file).unwrap();
        let unix = |scheme: &str| format!("{scheme}://{}", directory.join(scheme).display());
        let mut args = vec!["tcp://127.0.0.1:0".to_owned(), "udp://127.0.0.1:0".to_owned()];
        args.extend([unix("unix"), unix("unixgram"), file.display().to_string()]);
        args.extend(["tcp://127.0.0.1:0".to_owned(), "udp://127.0.0.1:0".to_owned(), plugin("echo")]);
        let sleeper = (time > Duration::from_secs(SHORT)).then_some(&SLEEPER);
        let worst = WORST.iter().chain(sleeper);
        args.extend(worst.flat_map(|name| ["tcp://127.0.0.1:0".to_owned(), guest(name)]));
        args.extend(LIMITS.iter().chain(&["--concurrency", strategy]).map(|&arg| arg.to_owned()));
        let (tally, longer, is_over) = Default::default();
        Self { strategy, host: Host::serve(&args), file, tally, longer, is_over }
    }

    /// Everything at once, for so long.
    fn load(&self, time: Duration) {
        self.is_over.store(false, SeqCst);
        thread::scope(|scope| {
            scope.spawn(|| self.swap());
            self.good().iter().for_each(|address| drop(scope.spawn(move || self.be_good(address))));
            self.abused().into_iter().for_each(|address| drop(scope.spawn(move || self.be_bad(address))));
            self.worst().iter().for_each(|address| drop(scope.spawn(move || self.ask_the_worst(address))));
            scope.spawn(|| {
                let is_over = || self.is_over.load(SeqCst);
                *self.longer.lock().unwrap() = canary(&self.good()[0], b"canary", b"canary", is_over);
            });
            thread::sleep(time);
            self.is_over.store(true, SeqCst);
        });
    }

    fn good(&self) -> &[ServeAddress] {
        &self.host.addresses[..4]
    }

    /// The good TCP server is abused, too, except where a client that does nothing keeps all others waiting.
    fn abused(&self) -> Vec<&ServeAddress> {
        let also = (self.strategy != "sync").then(|| &self.host.addresses[0]);
        self.host.addresses[4..6].iter().chain(also).collect()
    }

    fn worst(&self) -> &[ServeAddress] {
        &self.host.addresses[6..]
    }

    /// Asks one request after the other, each of which must be answered.
    fn be_good(&self, address: &ServeAddress) {
        while !self.is_over.load(SeqCst) {
            let data = pattern(self.tally.good.load(SeqCst) % 5000 + 1);
            match clients::try_ask(address, &data) {
                Ok(answer) if answer == data => self.tally.good.fetch_add(1, SeqCst),
                Ok(answer) => {
                    self.tally.fail(format!("{address} answered {} of {} bytes", answer.len(), data.len()))
                }
                Err(error) => self.tally.fail(format!("{address}: {error}")),
            };
        }
    }

    fn be_bad(&self, address: &ServeAddress) {
        while !self.is_over.load(SeqCst) {
            for be_bad in clients::ways_to_be_bad(address) {
                // Being refused is what it deserves.
                let _ = be_bad(address);
                self.tally.bad.fetch_add(1, SeqCst);
            }
        }
    }

    /// Asks a handler that does its worst, and waits for the end of it.
    fn ask_the_worst(&self, address: &ServeAddress) {
        for harm in HARMS.iter().cycle().take_while(|_| !self.is_over.load(SeqCst)) {
            let _ = clients::ask_and_wait(address, harm);
            self.tally.worst.fetch_add(1, SeqCst);
        }
    }

    /// Swaps the good handler, and sees to it that it was.
    fn swap(&self) {
        while !self.is_over.load(SeqCst) {
            let swaps = self.tally.swaps.fetch_add(1, SeqCst) + 1;
            let version = VERSIONS[swaps % VERSIONS.len()];
            let next = self.file.with_extension("next");
            fs::copy(version(), &next).unwrap();
            fs::rename(&next, &self.file).unwrap();
            self.host.signal(Signal::HUP);
            self.host.log.wait_for_count(": swapped: ", swaps);
            thread::sleep(SWAP_EVERY);
        }
    }
}
