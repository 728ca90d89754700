//! Handlers that mean harm: each ends by itself, says why, leaves nothing behind, and nobody else notices.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use plugsock::{Cause, ServerOptions, ServerType};
use tempfile::TempDir;

use crate::harness::{
    Case, Client, Host, PANIC_ON, Recorder, Running, canary, for_each_strategy, guest, handler, is_long_run,
};

/// How a guest that is busy ends. On a machine that is busy too, any other may end so before it does its harm.
const BUSY: [&str; 2] = ["CPU time limit of 300ms reached", " time limit of 2s reached"];

/// How much longer those who mean well wait, half of them at least, than for a server that does nothing else.
const ANSWERED_WITHIN: Duration = Duration::from_millis(100);

/// What the guest `hostile` can be asked for, and one of the words that the log has for its end.
const HARMS: [(&str, &[&str]); 18] = [
    ("loop", &BUSY),
    ("fill memory", &BUSY),
    ("take memory", &["memory limit of 33554432 bytes reached"]),
    // G5
    ("call the host", &BUSY),
    ("print", &BUSY),
    ("print bytes", &BUSY),
    // G10
    ("sleep", &BUSY),
    ("poll nothing", &["empty poll list"]),
    ("random", &["exceeds limit"]),
    ("open files", &["limit of 200 resources reached"]),
    // G11
    ("open streams", &["limit of 200 resources reached"]),
    ("subscribe", &["limit of 200 resources reached"]),
    ("never read", &BUSY),
    // G7
    ("write", &["client dropped: idle time limit of 500ms reached"]),
    ("long error", &["bytes more]"]),
    ("long panic", &["handler trapped"]),
    ("exit", &["it called exit"]),
    ("what else", &["what is 'what else'?"]),
];

/// The limits that they reach: their counters, and what the log says of each.
const LIMITS: [(&str, &str); 5] = [
    ("cpu-time", "handler stopped: CPU time limit of 300ms reached"),
    ("request-time", "handler stopped: time limit of 2s reached"),
    ("memory", "handler stopped: memory limit of 33554432 bytes reached"),
    ("resources", "handler stopped: limit of 200 resources reached"),
    ("idle-time", "client dropped: idle time limit of 500ms reached"),
];

/// A host whose requests end soon, with a directory of a hundred files.
fn serve(strategy: &str) -> (Host, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    for name in 0..100 {
        fs::write(directory.path().join(name.to_string()), "").unwrap();
    }
    let grant = format!("{}::/data", directory.path().display());
    let limits =
        ["--cpu-time", "300ms", "--request-time", "2s", "--idle-timeout", "500ms", "--memory", "32MiB"];
    let rest = ["--resources", "200", "--dir", &grant, "--concurrency", strategy, "--workers", "32"];
    // The second address is for those who mean well.
    let addresses = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0", &guest("hostile")];
    (Host::serve(&[&addresses[..], &limits, &rest].concat()), directory)
}

/// Does every harm at once, while well-behaved clients of another listener are served.
fn do_all_harm(host: &Host) {
    let (address, other, log) = (host.address(), &host.addresses[1], &host.log);
    let harm = |harm: &str, causes: &[&str]| {
        let client = Client::connect(address);
        client.send(format!("{harm}\n").as_bytes());
        let local = client.socket.local_addr().unwrap().as_socket().unwrap();
        // Who is written to without end does not read.
        assert!(harm == "write" || client.is_closed(), "{harm}");
        let line = log.wait_for(&format!("client={local} "));
        let is_one = causes.iter().chain(&BUSY).any(|cause| line.contains(cause));
        assert!(is_one, "{harm}: {line:.500}");
    };
    thread::scope(|scope| {
        let harms: Vec<_> =
            HARMS.iter().map(|(name, causes)| scope.spawn(move || harm(name, causes))).collect();
        let is_over = || harms.iter().all(ScopedJoinHandle::is_finished);
        let longer = canary(other, b"nothing\n", b"well", is_over);
        let median = longer[longer.len() / 2];
        assert!(
            median < ANSWERED_WITHIN,
            "a well-behaved client waits {median:?} longer than for a plain echo"
        );
    });
}

/// G1, G2, G5, G7, G10, G11
#[test]
fn every_harm_ends_its_own_request_alone() {
    for_each_strategy(|strategy| {
        let (mut host, _directory) = serve(strategy);
        // What is made once, with the first requests.
        do_all_harm(&host);
        let before = host.resources();
        do_all_harm(&host);
        host.wait_for_resources(&before);
        let counted = host.status().slots.swap_remove(0).versions.swap_remove(0).limits;
        for (limit, said) in LIMITS {
            let count = counted.get(limit).copied().unwrap_or_default();
            assert_eq!(count, host.log.lines_with(said).len() as u64, "{limit}: {counted:?}");
        }
        assert!(host.terminate().success());
        // One line for each that failed, and none that is long.
        assert_eq!(host.log.lines_with(" phase=").len(), 2 * HARMS.len(), "{}", short(&host));
        assert!(host.log.text().lines().all(|line| line.len() < 64 << 10));
    });
}

/// The log without what guests print.
fn short(host: &Host) -> String {
    let text = host.log.text();
    text.lines().filter(|line| !line.contains(" guest: ")).map(|line| format!("{line:.500}\n")).collect()
}

/// Megabytes of it would not even get out of a forked child.
#[test]
fn a_long_error_is_cut() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("hostile", &["--concurrency", strategy]);
        assert_eq!(host.ask(b"long error\n"), b"");
        let line = host.log.wait_for("handler error: long long ");
        assert!(line.contains("bytes more]") && line.len() < 64 << 10, "{line:.500}");
        assert_eq!(host.ask(b"nothing\n"), b"well");
    });
}

/// G5: what is too much is dropped, and counted.
#[test]
fn what_a_guest_prints_is_limited() {
    for_each_strategy(|strategy| {
        let limits = ["--log-rate", "20", "--cpu-time", "500ms", "--concurrency", strategy];
        let mut host = Host::tcp("hostile", &limits);
        assert_eq!(host.ask(b"print\n"), b"");
        assert!(host.terminate().success());
        let dropped = host.log.lines_with("dropped lines beyond 20 a second");
        let line = dropped.last().expect("it says that lines were dropped");
        assert!(line.contains("request=1 ") && line.contains("dropped="), "{line}");
        // Ten seconds' worth at once, and some for the time that passed.
        let lines = host.log.lines_with(" guest: line ").len();
        assert!((200..2000).contains(&lines), "{lines} lines");
        let count = |line: &String| line.split("dropped=").nth(1).unwrap().split(' ').next().unwrap().parse();
        let dropped: usize = dropped.iter().map(|line| count(line).unwrap_or(0)).sum();
        assert!(dropped > 200, "{dropped} dropped");
    });
}

/// Nor can one call hold a thread on which others' requests wait: it takes no more than its stream allowed.
#[test]
fn a_guest_does_not_print_megabytes_at_once() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("hostile", &["--concurrency", strategy]);
        assert_eq!(host.ask(b"print at once\n"), b"");
        let line = host.log.wait_for("request=1 ");
        assert!(line.contains("handler trapped: a write beyond what check-write allowed"), "{line}");
        assert_eq!(host.log.lines_with(" guest: ").len(), 0);
        assert_eq!(host.ask(b"nothing\n"), b"well");
    });
}

/// Thousands of requests that each end by a limit leave nothing behind.
#[test]
fn requests_that_end_by_a_limit_free_all_they_held() {
    for_each_strategy(|strategy| {
        let limits = ["--memory", "4MiB", "--max-requests", "16", "--log-level", "error"];
        let mut host = Host::tcp("hostile", &[&limits[..], &["--concurrency", strategy]].concat());
        let count = match strategy {
            "forking" if !is_long_run() => 1_000,
            _ => 10_000,
        };
        let address = host.address().clone();
        let ask = |count: usize| {
            let left = AtomicUsize::new(count);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                            assert_eq!(Client::ask(&address, b"grow memory\n"), b"");
                        }
                    });
                }
            });
        };
        ask(count / 10);
        let (before, memory) = (host.resources(), host.memory());
        ask(count);
        host.wait_for_resources(&before);
        let grown = host.memory().saturating_sub(memory);
        assert!(grown < memory / 20 + (4 << 20), "{grown} bytes more than the {memory} before");
        assert_eq!(host.ask(b"nothing\n"), b"well");
        assert!(host.terminate().success());
    });
}

/// G13: the subscriber of this process panics when a guest prints certain words, in the host function that it
/// calls.
#[test]
fn a_host_function_that_panics_ends_its_request_alone() {
    for_each_strategy(|strategy| {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let case = Case { server_type: ServerType::Tcp, strategy };
        let server = Running::start_with(case, handler("print_line"), options);
        for count in 1..=2 {
            assert_eq!(server.ask(format!("{PANIC_ON}\n").as_bytes()), b"");
            let failures = recorder.failures_when_closed(2 * count - 1);
            assert!(matches!(failures[count - 1].cause, Cause::Host(_)), "{failures:?}");
            assert_eq!(server.ask(b"a line\n"), b"printed");
            recorder.failures_when_closed(2 * count);
        }
    });
}
