//! `setup`, `handle`, `finish`: their order, and what follows when one of them fails.

use std::sync::Arc;

use plugsock::{Cause, Limits, Phase, Sandbox, SandboxOptions, ServerOptions, ServerType};

use crate::harness::{
    Case, Host, Recorder, Running, for_each_case, for_each_strategy, guest, handler, sandbox_options, written,
};

/// A guest that fails, and where; what its client has got by then.
const FAILURES: [(&str, Phase, &str); 6] = [
    ("error_in_setup", Phase::Setup, "setup\n"),
    ("error_in_handle", Phase::Handle, "setup\nhandle\nfinish\n"),
    ("error_in_finish", Phase::Finish, "setup\nhandle\nfinish\n"),
    ("trap_in_setup", Phase::Setup, "setup\n"),
    ("trap_in_handle", Phase::Handle, "setup\nhandle\n"),
    ("trap_in_finish", Phase::Finish, "setup\nhandle\nfinish\n"),
];

fn start(case: Case, guest: &str) -> (Running, Recorder) {
    let recorder = Recorder::default();
    let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
    (Running::start_with(case, handler(guest), options), recorder)
}

#[test]
fn they_run_in_order() {
    for_each_case(|case| {
        let (server, recorder) = start(case, "phases");
        let client = server.connect();
        client.send(b"");
        client.half_close();
        assert_eq!(client.recv_exact(20), b"setup\nhandle\nfinish\n");
        assert!(recorder.failures_when_closed(1).is_empty());
    });
}

/// G8, G9: the connection is closed, `handle_error` runs once, and the server serves on.
#[test]
fn a_failure_ends_its_own_request_and_no_other() {
    for_each_case(|case| {
        for (guest, phase, sent) in FAILURES {
            let (server, recorder) = start(case, guest);
            for round in 1..=2 {
                let client = server.connect();
                client.send(b"");
                assert_eq!(client.recv_exact(sent.len()), sent.as_bytes(), "{guest}");
                let failures = recorder.failures_when_closed(round);
                assert_eq!(failures.len(), round, "{guest}: {failures:?}");
                assert_eq!(failures[round - 1].phase, phase, "{guest}");
                let is_as_named = match failures[round - 1].cause {
                    Cause::Error(_) => guest.starts_with("error"),
                    Cause::Trap { .. } => guest.starts_with("trap"),
                    _ => false,
                };
                assert!(is_as_named, "{guest}: {failures:?}");
                match case.server_type.is_datagram() {
                    true => assert!(client.has_nothing(), "{guest}"),
                    false => assert!(client.is_closed(), "{guest}"),
                }
            }
        }
    });
}

/// What the log says of each way in which the guest `traps` traps.
const TRAPS: [&str; 16] = [
    "unreachable",
    "out of bounds memory access",
    "out of bounds memory access",
    "integer divide by zero",
    "integer overflow",
    "invalid conversion to integer",
    "undefined element",
    "undefined element",
    "uninitialized element",
    "indirect call type mismatch",
    "stack limit of 524288 bytes reached",
    "utf-8",
    "pointer/length out of bounds of memory",
    "discriminant",
    "unknown handle index 77",
    "unknown handle index 77",
];

/// G8: every trap in every phase is said, and the next request goes as if there had been none.
#[test]
fn whatever_a_handler_traps_by_ends_its_own_request_alone() {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(&["tcp://127.0.0.1:0", &written("traps"), "--concurrency", strategy]);
        let phases = [Phase::Setup, Phase::Handle, Phase::Finish];
        for number in 0..TRAPS.len() * phases.len() {
            assert_eq!(host.ask(b""), b"");
            let line = host.log.wait_for(&format!("request={} ", number + 1));
            let (phase, trap) = (phases[number % 3], TRAPS[number / 3]);
            for part in [&format!("phase={phase} "), "handler ", trap] {
                assert!(line.contains(part), "no '{part}' in {line}");
            }
        }
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with(" phase=").len(), TRAPS.len() * phases.len());
    });
}

#[test]
fn the_log_has_one_line_for_a_failure_with_request_client_phase_and_cause() {
    for_each_strategy(|strategy| {
        for (guest, phase, sent) in FAILURES {
            let mut host = Host::tcp(guest, &["--concurrency", strategy]);
            let client = host.connect();
            let local = client.socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(client.exchange(b""), sent.as_bytes());
            assert_eq!(host.ask(b""), sent.as_bytes());
            assert!(host.terminate().success());
            let cause = if guest.starts_with("trap") { "handler trapped: " } else { "handler error: " };
            assert_eq!(host.log.lines_with(cause).len(), 2);
            let lines = host.log.lines_with(&format!("client={local}"));
            let [line] = &lines[..] else { panic!("{} lines: {lines:?}", lines.len()) };
            for part in [" WARN ", "request=1 ", &format!("phase={phase}"), cause] {
                assert!(line.contains(part), "no {part} in {line}");
            }
        }
    });
}

#[test]
fn the_log_has_the_backtrace_of_a_trap_at_debug_level() {
    let host = Host::tcp("trap_in_handle", &["--log-level", "debug"]);
    host.ask(b"");
    host.log.wait_for("wasm backtrace");
}

#[test]
fn json_log_lines_have_the_same_fields() {
    let host = Host::tcp("error_in_handle", &["--log-format", "json"]);
    host.ask(b"");
    let line = host.log.wait_for("handler error");
    for part in [r#""level":"WARN""#, r#""request":1"#, r#""phase":"handle""#, r#""client":"127.0.0.1:"#] {
        assert!(line.starts_with('{') && line.contains(part), "no {part} in {line}");
    }
}

#[test]
fn every_request_gets_a_fresh_instance() {
    for_each_case(|case| {
        let (server, _) = start(case, "counter");
        for _ in 0..20 {
            assert_eq!(server.ask(b""), b"1\n");
        }
    });
}

#[test]
fn an_instance_serves_again_only_where_the_operator_says_so() {
    let reuse = ["--concurrency", "sync", "--reuse", "3"];
    let host = Host::tcp("counter", &reuse);
    let counts: Vec<u8> = (0..7).map(|_| host.ask(b"")[0]).collect();
    assert_eq!(counts, b"1231231");
    // Each request has its own connection and streams, also in an instance that has had others.
    let host = Host::tcp("streams_echo", &reuse);
    for number in 0..5 {
        assert_eq!(host.ask(&[number; 100]), [number; 100]);
    }
}

/// G14: one slot of the pool for all requests, so that each gets the memory of the one before it.
#[test]
fn no_request_finds_the_memory_of_another() {
    let limits = Limits { max_requests: 1, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let handler = sandbox.load(guest("secret")).unwrap();
    for_each_strategy(|strategy| {
        let server = Running::start(Case { server_type: ServerType::Tcp, strategy }, handler.clone());
        for _ in 0..30 {
            assert_eq!(server.ask(b"put\n"), b"put\n");
            assert_eq!(server.ask(b"get\n"), b"0\n");
        }
    });
}
