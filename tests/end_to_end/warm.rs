//! Instances that are made ahead of their requests.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{Cause, Handler, Limits, Sandbox, SandboxOptions, ServerOptions, ServerType};

use crate::harness::{Case, Client, Host, PATIENCE, Recorder, Running, guest, sandbox_options, written};

/// Where requests are served by the host's own process.
const UNFORKED: [&str; 4] = ["sync", "threading", "pool", "async"];

/// A server with `warm` instances ready.
fn start(strategy: &'static str, component: &str, warm: usize) -> (Running, Handler, Recorder) {
    let limits = Limits { warm, max_requests: 2, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let handler = sandbox.load(component).unwrap();
    let recorder = Recorder::default();
    let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
    let case = Case { server_type: ServerType::Tcp, strategy };
    let server = Running::start_with(case, handler.clone(), options);
    wait_for_warm(&handler, warm);
    (server, handler, recorder)
}

fn wait_for_warm(handler: &Handler, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while handler.warm_instances() != count {
        assert!(Instant::now() < deadline, "{} instances are ready", handler.warm_instances());
        thread::yield_now();
    }
}

#[test]
fn each_serves_one_request_and_another_takes_its_place() {
    for strategy in UNFORKED {
        let (server, handler, _) = start(strategy, &guest("counter"), 3);
        for _ in 0..20 {
            assert_eq!(server.ask(b""), b"1\n", "{strategy}");
        }
        wait_for_warm(&handler, 3);
    }
}

#[test]
fn a_request_is_served_by_one_that_was_there_before_it() {
    for strategy in UNFORKED {
        let (server, handler, recorder) = start(strategy, &written("age"), 2);
        for count in 1..=3 {
            wait_for_warm(&handler, 2);
            // Those that are ready grow old; one that is made for its request would not.
            thread::sleep(Duration::from_millis(50));
            assert!(server.connect().is_closed());
            let failures = recorder.failures_when_closed(count);
            assert!(matches!(&failures[count - 1].cause, Cause::Error(age) if age == "old"), "{failures:?}");
        }
    }
}

/// The CPU time that a request may use is less than an instance takes to be made.
#[test]
fn a_slow_start_is_not_at_the_cost_of_a_request() {
    for strategy in ["threading", "forking"] {
        let handler = written("slow_start");
        let args = ["tcp://127.0.0.1:0", &handler, "--cpu-time", "30ms", "--concurrency", strategy];
        let host = Host::serve(&args);
        assert!(host.connect().is_closed());
        let line = host.log.wait_for("CPU time limit of 30ms reached");
        assert!(line.contains("phase=instantiate"), "{line}");
        let host = Host::serve(&[&args[..], &["--warm", "1", "--log-level", "debug"]].concat());
        assert!(host.connect().is_closed());
        host.log.wait_for("served request=1 ");
    }
}

#[test]
fn where_there_are_too_many_handlers_the_log_says_which_has_none() {
    let handlers = ["counter", "phases", "server_info", "v2", "streams_echo"].map(guest);
    let mut args: Vec<&str> = handlers.iter().flat_map(|handler| ["tcp://127.0.0.1:0", handler]).collect();
    args.extend(["--warm", "1"]);
    let host = Host::serve(&args);
    assert_eq!(Client::ask(&host.addresses[4], b"hello"), b"hello");
    let line = host.log.wait_for("0 of 1 instances of ");
    assert!(line.contains("streams_echo.wasm are ready ahead"), "{line}");
}

#[test]
fn every_forked_child_begins_with_its_own_copy() {
    let host = Host::tcp("counter", &["--warm", "1", "--concurrency", "forking"]);
    for _ in 0..20 {
        assert_eq!(host.ask(b""), b"1\n");
    }
    let address = host.address();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(move || assert_eq!(Client::ask(address, b""), b"1\n"));
        }
    });
}

/// What it learns then would be another request's, or every child's.
#[test]
fn what_calls_wasi_when_it_is_instantiated_is_made_for_its_request() {
    for (handler, strategy) in [
        (written("command_random_start"), "threading"),
        (written("command_random_start"), "forking"),
        (written("command_seed_start"), "forking"),
        (written("age"), "forking"),
    ] {
        let args = ["tcp://127.0.0.1:0", &handler, "--warm", "2", "--concurrency", strategy];
        let mut host = Host::serve(&args);
        host.log.wait_for("are not made ahead: it calls WASI before there is a request");
        for _ in 0..3 {
            host.ask(b"");
        }
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("are not made ahead").len(), 1);
    }
}
