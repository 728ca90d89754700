//! Requests of all types, with every strategy.

use std::thread;
use std::time::Duration;

use super::{SpanKind, TCP, Trace, host, rest, traces};
use crate::harness::{Client, Collector, STRATEGIES, for_each_strategy, guest, plugin, wait_until};

/// How long the client is waited for, at least.
const PAUSE: Duration = Duration::from_millis(200);

/// What its process says of itself is by another clock.
fn is_within(trace: &Trace, strategy: &str) -> bool {
    let slack = if strategy == "forking" { 1_000_000_000 } else { 0 };
    let own = &trace.own;
    trace.below.iter().all(|span| span.begun + slack >= own.begun && span.ended <= own.ended + slack)
}

#[test]
fn a_connection_with_its_phases_and_waits() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let host = host(&collector, &[TCP, "--concurrency", strategy], &[]);
        let client = host.greeted();
        thread::sleep(PAUSE);
        assert_eq!(client.exchange(b"hello"), b"hello");
        let trace = traces(&collector, 1, "finish").remove(0);
        let own = &trace.own;
        assert_eq!((&*own.name, own.kind, own.is_error), ("serve echo", SpanKind::Server, false));
        assert_eq!((own.parent.len(), own.trace.len(), own.id.len()), (0, 32, 16));
        let address = host.address().to_string();
        let port = address.rsplit_once(':').unwrap().1;
        for (key, expected) in [
            ("server.address", "127.0.0.1"),
            ("server.port", port),
            ("client.address", "127.0.0.1"),
            ("network.transport", "tcp"),
            ("plugsock.server", &address),
            ("plugsock.strategy", strategy),
            ("plugsock.slot", "echo"),
            ("plugsock.generation", "1"),
            ("plugsock.request", "1"),
            ("plugsock.outcome", "ok"),
            ("plugsock.received", "6"),
            ("plugsock.sent", "6"),
        ] {
            assert_eq!(own.get(key), expected, "{strategy} {key}: {trace:#?}");
        }
        assert!(own.get("plugsock.digest").starts_with("sha256:"), "{trace:#?}");
        let own_phases: Vec<_> = trace.below.iter().rev().take(4).rev().collect();
        let names: Vec<_> = own_phases.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["instantiate", "setup", "handle", "finish"], "{strategy}: {trace:#?}");
        assert!(own_phases.windows(2).all(|two| two[0].ended <= two[1].begun), "{strategy}: {own_phases:#?}");
        let waited = trace.below.iter().filter(|span| span.name == "recv").map(|span| span.time()).max();
        assert!(waited.is_some_and(|time| time >= 150), "{strategy}: {trace:#?}");
        assert!(trace.below("handle").time() >= 150, "{strategy}: {trace:#?}");
        assert!(trace.below.iter().all(|span| span.trace == own.trace), "{strategy}: {trace:#?}");
        assert!(is_within(&trace, strategy), "{strategy}: {trace:#?}");
    });
}

/// With one worker, which is another's.
#[test]
fn the_wait_for_a_worker() {
    let collector = Collector::start("200 OK");
    let host = host(&collector, &[TCP, "--concurrency", "pool", "--workers", "1"], &[]);
    let (first, second) = (host.greeted(), host.connect());
    second.send(b"b");
    wait_until(|| host.status().servers[0].open == 2);
    thread::sleep(PAUSE);
    assert_eq!(first.exchange(b""), b"");
    assert_eq!(second.exchange(b""), b"b");
    let [first, second] = &traces(&collector, 2, "finish")[..] else { panic!("there are two") };
    // A busy machine may have the first wait, too.
    let is_first_shorter = || first.below("wait for start").time() < second.below("wait for start").time();
    assert!(!first.names().contains(&"wait for start") || is_first_shorter(), "{first:#?}");
    assert!(second.below("wait for start").time() >= 150, "{second:#?}");
    assert!(second.below("wait for start").ended <= second.below("instantiate").begun, "{second:#?}");
    assert!(second.below("instantiate").time() < second.own.time() - 150, "{second:#?}");
}

#[test]
fn how_it_failed() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        for (name, outcome) in
            [("error_in_handle", "error"), ("trap_in_handle", "trap"), ("loop_forever", "limit")]
        {
            let args = [TCP, &guest(name), "--cpu-time", "50ms", "--concurrency", strategy];
            let host = host(&collector, &args, &[]);
            let _ = host.ask(b"");
            let trace = traces(&collector, 1, "handle").remove(0);
            assert!(trace.own.is_error, "{strategy} {name}: {trace:#?}");
            for key in ["plugsock.outcome", "error.type"] {
                assert_eq!(trace.own.get(key), outcome, "{strategy} {name}: {trace:#?}");
            }
            assert_eq!(trace.own.get("plugsock.failed_in"), "handle", "{strategy} {name}: {trace:#?}");
            drop(host);
            collector.rest();
        }
    });
}

#[test]
fn packets_and_unix_sockets() {
    for strategy in STRATEGIES {
        let collector = Collector::start("200 OK");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket").display().to_string();
        let (unix, echo) = (format!("unix://{path}"), plugin("echo"));
        let datagrams = guest("datagram_echo");
        let args = [&*unix, &echo, "udp://127.0.0.1:0", &datagrams, "--concurrency", strategy];
        let host = host(&collector, &args, &[]);
        let [stream, packets] = &host.addresses[..] else { panic!("{:?}", host.addresses) };
        assert_eq!(Client::ask(stream, b"hello"), b"hello");
        let trace = traces(&collector, 1, "finish").remove(0);
        assert_eq!(trace.own.get("network.transport"), "unix", "{strategy}: {trace:#?}");
        assert_eq!(trace.own.get("server.address"), path, "{strategy}: {trace:#?}");
        assert!(!trace.own.attributes.contains_key("client.address"), "{strategy}: {trace:#?}");
        let client = Client::connect(packets);
        assert_eq!(client.exchange(b"a packet"), b"a packet");
        let trace = traces(&collector, 1, "finish").remove(0);
        assert_eq!(trace.own.name, "serve datagram_echo", "{strategy}: {trace:#?}");
        for (key, expected) in
            [("network.transport", "udp"), ("plugsock.received", "8"), ("plugsock.sent", "8")]
        {
            assert_eq!(trace.own.get(key), expected, "{strategy}: {trace:#?}");
        }
    }
}

/// Sixty-odd waits, of which so many have room.
#[test]
fn many_waits_are_counted() {
    for strategy in ["threading", "async", "forking"] {
        let collector = Collector::start("200 OK");
        let host = host(&collector, &[TCP, "--concurrency", strategy], &[]);
        let client = host.greeted();
        for _ in 0..60 {
            thread::sleep(Duration::from_millis(5));
            client.send(b"x");
            assert_eq!(client.recv_exact(1), b"x");
        }
        client.half_close();
        assert_eq!(client.recv_all(), b"");
        let trace = traces(&collector, 1, "finish").remove(0);
        let waits = trace.names().iter().filter(|name| ["recv", "send"].contains(name)).count();
        assert_eq!(waits, 32, "{strategy}: {trace:#?}");
        let left_out: usize = trace.own.get("plugsock.waits_left_out").parse().unwrap();
        assert!(left_out >= 10, "{strategy}: {left_out}");
    }
}

/// It waits for its client and a timer, of which the client is the one to be told of.
#[test]
fn a_poll_is_told_of_by_what_it_is_for() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let args = [TCP, &guest("poll_client_and_timer"), "--concurrency", strategy];
        let host = host(&collector, &args, &[]);
        let client = host.connect();
        assert_eq!(client.recv_exact(5), b"tick\n");
        client.half_close();
        client.recv_all();
        let trace = traces(&collector, 1, "handle").remove(0);
        assert!(trace.below("recv").time() >= 40, "{strategy}: {trace:#?}");
        assert!(!trace.names().contains(&"poll"), "{strategy}: {trace:#?}");
    });
}

#[test]
fn a_share_of_them() {
    let ratio = |share| [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", share)];
    for strategy in STRATEGIES {
        for variables in
            [&ratio("0")[..], &[("OTEL_TRACES_SAMPLER", "always_off")], &[("OTEL_TRACES_EXPORTER", "none")]]
        {
            let collector = Collector::start("200 OK");
            let host = host(&collector, &[TCP, "--concurrency", strategy], variables);
            assert_eq!(host.ask(b"hello"), b"hello");
            assert_eq!(rest(&collector, host).len(), 0, "{strategy} {variables:?}");
        }
    }
    let collector = Collector::start("200 OK");
    let host = host(&collector, &[TCP], &ratio("0.5"));
    (0..200).for_each(|_| drop(host.ask(b"hello")));
    let sampled = rest(&collector, host).iter().filter(|span| span.is_own()).count();
    // It is farther from the middle once in ten billion times.
    assert!((55..=145).contains(&sampled), "{sampled}");
}
