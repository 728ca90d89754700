//! What a request may use, and how one that wants more ends: alone.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugsock::{Cause, Limit, Limits, RequestError, Sandbox, SandboxOptions, ServerOptions, ServerType};
use rustix::process::Signal;

use crate::harness::wasm::with_instances;
use crate::harness::{
    Case, Client, Host, Recorder, Running, STRATEGIES, for_each_strategy, guest, handler, pattern, plugin,
    plugsock, run, sandbox_options, written,
};

/// A host with a guest that ends at a limit and says so in one line; the line.
fn ends_at_a_limit(handler: &str, args: &[&str], phase: &str, cause: &str) {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(
            &[&["tcp://127.0.0.1:0", handler, "--concurrency", strategy, "--log-level", "warn"], args]
                .concat(),
        );
        for _ in 0..2 {
            assert!(host.connect().is_closed());
        }
        let lines = host.log.wait_for_count(cause, 2);
        assert!(
            lines[0].contains(&format!("phase={phase}")) && lines[0].contains("request=1 "),
            "{}",
            lines[0]
        );
        assert!(host.terminate().success());
        assert_eq!(host.log.text().lines().count(), 2, "{}", host.log.text());
    });
}

/// G2
#[test]
fn memory_ends_at_its_limit() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("memory_bomb", &["--memory", "8MiB", "--concurrency", strategy]);
        for _ in 0..3 {
            let answer = String::from_utf8(host.ask(b"")).unwrap();
            let got: u32 = answer.trim_end_matches(" MiB\n").parse().unwrap();
            assert!((4..8).contains(&got), "{answer}");
        }
    });
}

/// G4: the guest is told that its table cannot grow, and goes on.
#[test]
fn a_table_grows_to_its_limit() {
    for_each_strategy(|strategy| {
        let args = ["tcp://127.0.0.1:0", &written("table"), "--concurrency", strategy, "--table-elements"];
        let serve = |limit| Host::serve(&[&args[..], &[limit]].concat());
        let mut host = serve("3000");
        assert_eq!(host.ask(b""), b"");
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("handler"), [""; 0]);
        let host = serve("10000");
        host.ask(b"");
        host.log.wait_for("handler trapped: ");
    });
}

/// G2, G4: by initial size
#[test]
fn a_handler_that_begins_above_a_limit_is_not_served() {
    for (handler, option, limit, word) in [
        (guest("phases"), "--memory", "64KiB", "memory"),
        (written("two_memories"), "--memory", "64KiB", "memory"),
        (written("table"), "--table-elements", "1000", "table"),
    ] {
        let ended =
            run(plugsock().args(["serve", "tcp://127.0.0.1:0", &handler, "--no-cache", option, limit]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(word) && ended.stderr.lines().count() == 1, "{ended:?}");
    }
}

#[test]
fn a_module_may_have_several_memories_and_tables() {
    for_each_strategy(|strategy| {
        let args = ["tcp://127.0.0.1:0", &written("two_memories"), "--memory", "128KiB"];
        let mut host = Host::serve(&[&args[..], &["--concurrency", strategy]].concat());
        assert_eq!(host.ask(b""), b"");
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("handler"), [""; 0]);
    });
}

/// None takes what another needs, however much its component is made of.
#[test]
fn there_are_instances_memories_and_tables_for_every_request() {
    const OPEN: usize = 7;
    let directory = tempfile::tempdir().unwrap();
    let greedy = directory.path().join("greedy.wasm");
    fs::write(&greedy, with_instances(fs::read(plugin("echo")).unwrap(), 90)).unwrap();
    let (greedy, max) = (greedy.display().to_string(), (OPEN + 1).to_string());
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != "sync") {
        let addresses = ["tcp://127.0.0.1:0", &greedy, "tcp://127.0.0.1:0", &plugin("echo")];
        let limits = ["--max-requests", &max, "--workers", "8", "--concurrency", strategy];
        let host = Host::serve(&[&addresses[..], &limits].concat());
        let open: Vec<_> = (0..OPEN).map(|_| host.greeted()).collect();
        assert_eq!(Client::ask(&host.addresses[1], b"hello"), b"hello");
        drop(open);
    }
}

/// Beyond what one request may have of them a component is not served.
#[test]
fn a_component_of_too_many_parts_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let greedy = directory.path().join("greedy.wasm");
    fs::write(&greedy, with_instances(fs::read(plugin("echo")).unwrap(), 100)).unwrap();
    let ended = run(plugsock().args(["serve", "tcp://127.0.0.1:0", "--no-cache"]).arg(&greedy));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("core module instances"), "{ended:?}");
    assert!(ended.stderr.contains("--instances"), "{ended:?}");
}

/// A guest that lives with a refusal, and later traps, has not reached the limit.
#[test]
fn a_refusal_is_the_cause_of_what_follows_from_it_alone() {
    const MEMORY: &str = "handler stopped: memory limit of 131072 bytes reached";
    const TABLE: &str = "handler stopped: table limit of 100 elements reached";
    const UNREACHABLE: &str = "handler trapped: wasm trap: wasm `unreachable` instruction executed";
    const DIVISION: &str = "handler trapped: wasm trap: integer divide by zero";
    // As they are in `refused.wat`.
    let ends = [
        ("setup", MEMORY),
        ("setup", TABLE),
        ("setup", DIVISION),
        ("setup", DIVISION),
        ("setup", UNREACHABLE),
        ("setup", UNREACHABLE),
        ("setup", UNREACHABLE),
        ("handle", UNREACHABLE),
    ];
    for_each_strategy(|strategy| {
        let limits = ["--memory", "128KiB", "--table-elements", "100", "--concurrency", strategy];
        let host = Host::serve(&[&["tcp://127.0.0.1:0", &written("refused")], &limits[..]].concat());
        for (number, (phase, cause)) in (1..).zip(ends) {
            assert!(host.connect().is_closed());
            let line = host.log.wait_for(&format!("request={number} "));
            assert!(line.contains(cause) && line.contains(&format!("phase={phase} ")), "{number}: {line}");
        }
    });
    let handler = written("refused_at_start");
    let ended = run(plugsock().args(["serve", "tcp://127.0.0.1:0", &handler, "--no-cache"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("integer divide by zero"), "{ended:?}");
}

/// A host that has no place for an instance says that of itself, and not of the handler.
#[test]
fn a_request_without_a_place_in_the_pools_is_the_hosts_failure() {
    // Places for hooks and the like beyond the one request.
    const PLACES_MAX: usize = 100;
    let limits = Limits { max_requests: 1, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let handler = sandbox.load(plugin("echo")).unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for _ in 0..=PLACES_MAX {
            let (client, server) = UnixStream::pair().unwrap();
            clients.push(client);
            let (sender, handler) = (sender.clone(), &handler);
            scope.spawn(move || sender.send(handler.call(server.into())).unwrap());
        }
        // All others are served until their clients are gone.
        let failure = ended.recv().unwrap().unwrap_err();
        assert!(matches!(failure.cause, Cause::Host(_)), "{failure:?}");
    });
}

/// G3
#[test]
fn deep_recursion_traps() {
    ends_at_a_limit(&guest("deep_recursion"), &[], "handle", "handler trapped: ");
}

/// G1
#[test]
fn an_endless_loop_ends_at_the_cpu_limit() {
    let cause = "CPU time limit of 100ms reached";
    ends_at_a_limit(&guest("loop_forever"), &["--cpu-time", "100ms"], "handle", cause);
    ends_at_a_limit(&guest("loop_in_setup"), &["--cpu-time", "100ms"], "setup", cause);
}

/// G1
#[test]
fn an_endless_loop_ends_at_the_wall_clock_limit() {
    let (cause, args) = (" time limit of 100ms reached", ["--request-time", "100ms", "--cpu-time", "none"]);
    ends_at_a_limit(&guest("loop_forever"), &args, "handle", cause);
    ends_at_a_limit(&guest("loop_in_setup"), &args, "setup", cause);
}

/// G10
#[test]
fn a_sleep_ends_at_the_wall_clock_limit() {
    ends_at_a_limit(
        &guest("sleep_forever"),
        &["--request-time", "100ms"],
        "handle",
        " time limit of 100ms reached",
    );
}

/// The close that follows waits a while for what the client still sends.
#[test]
fn the_cause_is_the_limit_also_where_the_close_takes_its_time() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("sleep_forever", &["--request-time", "100ms", "--concurrency", strategy]);
        let client = host.connect();
        client.send(b"never read");
        let line = host.log.wait_for("request=1 ");
        assert!(line.contains(" time limit of 100ms reached"), "{line}");
    });
}

#[test]
fn a_silent_client_is_left_at_the_idle_timeout() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", "--idle-timeout", "100ms", "--concurrency", strategy]);
        let client = host.connect();
        client.send(b"a");
        assert_eq!(client.recv_exact(1), b"a");
        assert!(client.is_closed());
        assert_eq!(host.ask(b"hello"), b"hello");
    });
}

/// A forked child's ticker interrupts a wait as often as such a time-out would end it.
#[test]
fn a_time_out_hardly_longer_than_a_tick_ends_a_wait() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", "--idle-timeout", "15ms", "--concurrency", strategy]);
        assert!(host.connect().is_closed());
    });
}

/// G6: what one call from the guest may hand to the host.
#[test]
fn a_call_with_too_many_bytes_fails() {
    let limits = Limits { call_bytes: 10_000, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let handler = sandbox.load(guest("big_reply")).unwrap();
    for_each_strategy(|strategy| {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let case = Case { server_type: ServerType::Udp, strategy };
        let server = Running::start_with(case, handler.clone(), options);
        server.connect().send(b"");
        let failures = recorder.failures_when_closed(1);
        let is_limit = matches!(failures[0].cause, Cause::Limit(Limit::CallBytes(10_000)));
        assert!(is_limit, "{failures:?}");
    });
}

/// G11
#[test]
fn a_guest_that_holds_too_many_resources_is_stopped() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("poll_client_and_timer", &["--resources", "2", "--concurrency", strategy]);
        assert!(host.connect().is_closed());
        host.log.wait_for("handler stopped: limit of 2 resources reached");
    });
}

/// G11: such as it makes itself count, too.
#[test]
fn a_guest_that_makes_handles_without_end_is_stopped() {
    for_each_strategy(|strategy| {
        let limits = ["--resources", "200", "--concurrency", strategy];
        let host = Host::serve(&[&["tcp://127.0.0.1:0", &written("handles")], &limits[..]].concat());
        assert!(host.connect().is_closed());
        host.log.wait_for("handler stopped: limit of 200 resources reached");
    });
}

/// G7: whatever a connection has from its listener: a Unix socket inherits no timeouts.
#[test]
fn a_silent_client_is_dropped_on_every_kind_of_stream() {
    for_each_strategy(|strategy| {
        let directory = tempfile::tempdir().unwrap();
        let unix = format!("unix://{}", directory.path().join("socket").display());
        for address in ["tcp://127.0.0.1:0", &unix] {
            let host = Host::serve(&[address, "--idle-timeout", "200ms", "--concurrency", strategy]);
            assert!(host.connect().is_closed());
            host.log.wait_for("client dropped: idle time limit of 200ms reached");
        }
    });
}

/// G12: requests that are cut in the middle of a call end, each as itself.
#[test]
fn many_requests_cut_at_once_all_end() {
    for strategy in ["threading", "forking", "async"] {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let case = Case { server_type: ServerType::Tcp, strategy };
        let server = Running::start_with(case, handler("streams_echo"), options);
        let clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
        for client in &clients {
            client.send(b"a");
            assert_eq!(client.recv_exact(1), b"a");
        }
        assert_eq!(server.server_close_within(Duration::ZERO), 40);
        assert!(clients.iter().all(Client::is_closed));
        let failures = recorder.failures_when_closed(40);
        let is_cut = |failure: &RequestError| matches!(failure.cause, Cause::Limit(Limit::Closing));
        assert!(failures.len() == 40 && failures.iter().all(is_cut), "{strategy}: {failures:?}");
    }
}

/// C1: each byte ends the idle time, and none ends the request's.
#[test]
fn a_client_that_never_stops_sending_is_left_at_the_time_limit() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", "--request-time", "300ms", "--concurrency", strategy]);
        let client = host.connect();
        let start = Instant::now();
        while (&client.socket).write_all(b"a").is_ok() && (&client.socket).read_exact(&mut [0]).is_ok() {}
        assert!(start.elapsed() >= Duration::from_millis(250));
        host.log.wait_for(" time limit of 300ms reached");
    });
}

/// G7
#[test]
fn output_to_a_client_that_never_reads_takes_no_memory_and_ends() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("flood_output", &["--idle-timeout", "300ms", "--concurrency", strategy]);
        let before = host.peak_memory();
        let client = host.connect();
        host.log.wait_for("request=1 ");
        let grown = host.peak_memory() - before;
        assert!(grown < 32 << 20, "grown by {grown} bytes");
        drop(client);
    });
}

#[test]
fn beyond_max_requests_clients_wait_in_the_listen_queue_and_are_served_later() {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(&[
            "tcp://127.0.0.1:0",
            "--max-requests",
            "2",
            "--workers",
            "2",
            "--concurrency",
            strategy,
        ]);
        let room = if strategy == "sync" { 1 } else { 2 };
        let open: Vec<Client> = (0..room).map(|_| host.greeted()).collect();
        let waiting: Vec<Client> = (0..3).map(|_| host.connect()).collect();
        waiting.iter().for_each(|client| client.send(b"late"));
        if strategy != "sync" {
            host.log.wait_for("2 requests are open, the most allowed");
        }
        assert!(waiting.iter().all(Client::has_nothing));
        assert_eq!(open[0].exchange(b"end"), b"end");
        for client in &waiting {
            assert_eq!(client.recv_exact(4), b"late");
            client.socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.recv_all(), b"");
        }
        drop(open);
        host.signal(Signal::TERM);
        assert!(host.wait().success());
        assert!(host.log.lines_with("the most allowed").len() <= 1, "{}", host.log.text());
    });
}

/// Several servers of one process share the bound.
#[test]
fn max_requests_holds_for_all_addresses_together() {
    for_each_strategy(|strategy| {
        let addresses = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "--concurrency", strategy];
        let host = Host::serve(&[&addresses[..], &["--max-requests", "1"]].concat());
        let first = host.greeted();
        let second = Client::connect(&host.addresses[1]);
        second.send(&pattern(100));
        host.log.wait_for("the most allowed");
        assert!(second.has_nothing());
        first.exchange(b"");
        assert!(second.exchange(b"").len() == 100);
    });
}

/// E5: who waits for room, or for what a limit of its source allows, costs nothing but its place in the queue.
#[test]
fn no_processor_time_is_spent_on_waiting() {
    for_each_strategy(|strategy| {
        for limits in [
            &["--max-requests", "1"][..],
            &["--max-connections", "1"],
            &["--max-requests", "1", "--max-connections-per-ip", "9", "--deny", "10.0.0.0/8"],
            &["--max-requests", "1", "--connection-rate", "9/h", "--proxy-protocol", "127.0.0.1"],
        ] {
            let addresses = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "--concurrency", strategy];
            let host = Host::serve(&[&addresses[..], limits].concat());
            let begin: &[u8] =
                if limits.contains(&"--proxy-protocol") { b"PROXY UNKNOWN\r\na" } else { b"a" };
            let greet = |client: &Client| {
                client.send(begin);
                assert_eq!(client.recv_exact(1), b"a");
            };
            let open = host.connect();
            greet(&open);
            let waiting: Vec<Client> = (0..4).map(|_| host.connect()).collect();
            waiting.iter().for_each(|client| client.send(begin));
            if strategy != "sync" {
                host.log.wait_for("the most allowed");
            }
            assert_idle(&host, &format!("{strategy} {limits:?}"));
            assert_eq!(open.exchange(b"b"), b"b");
            // On a busy machine the kernel may have put them into its queue in another order than they came.
            std::thread::scope(|scope| {
                for client in &waiting {
                    scope.spawn(|| {
                        assert_eq!(client.recv_exact(1), b"a");
                        assert_eq!(client.exchange(b""), b"");
                    });
                }
            });
        }
    });
}

/// The host sleeps. (Nothing tells of that; who spins takes a whole core.)
fn assert_idle(host: &Host, what: &str) {
    const WINDOW: Duration = Duration::from_millis(300);
    let (before, since) = (host.processor_time(), Instant::now());
    std::thread::sleep(WINDOW);
    let spent = host.processor_time() - before;
    assert!(spent < since.elapsed() / 5, "{spent:?} of {:?} spent: {what}", since.elapsed());
}

#[test]
fn times_beyond_all_clocks_are_no_limits() {
    const TIME: &str = "100000000y";
    for_each_strategy(|strategy| {
        let times =
            ["--request-time", TIME, "--idle-timeout", TIME, "--timeout", TIME, "--shutdown-timeout", TIME];
        let mut host = Host::serve(&[&["tcp://127.0.0.1:0", "--concurrency", strategy], &times[..]].concat());
        assert_eq!(host.ask(b"hello"), b"hello");
        assert!(host.terminate().success());
    });
}
