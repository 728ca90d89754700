//! A swap changes the answer between two requests of one connection, and never within one; it loses none.

use std::time::Instant;

use super::{Answer, get, serve, url};
use crate::harness::{
    Clients, Counted, Deployed, Host, Load, for_each_strategy, guest, http_versioned, is_long_run,
};

fn swap(host: &Host, to: &str) {
    let swapped = host.ctl(&["swap", &guest(to)]);
    assert!(swapped.code == Some(0), "{}", swapped.stderr);
}

#[test]
fn the_next_request_of_a_connection_gets_the_new_version() {
    for strategy in ["threading", "forking", "pool", "async"] {
        let host = serve(strategy, &[]);
        let client = host.connect();
        assert_eq!(get(&client, "/version").text(), "1");
        // One that has begun keeps its own.
        let open = host.connect();
        open.send(b"GET /ticks/10 HTTP/1.1\r\nHost: x\r\n\r\n");
        open.recv_exact(100);
        swap(&host, "http_v2");
        assert_eq!(get(&client, "/version").text(), "2", "{strategy}");
        assert_eq!(get(&client, "/version").text(), "2", "{strategy}");
        let mut rest = Vec::new();
        while !rest.ends_with(b"0\r\n\r\n") {
            rest.extend(open.recv_some());
        }
        assert_eq!(get(&open, "/version").text(), "2", "{strategy}");
        // Also one that lies there in part.
        client.send(b"GET /version HTTP/1.1\r\nHo");
        swap(&host, "http");
        client.send(b"st: x\r\n\r\n");
        assert_eq!(Answer::read(&client).text(), "1", "{strategy}");
    }
}

/// Each version is named for its generation, and no client may be answered by an earlier one than before.
#[test]
fn no_request_is_lost_or_answered_by_the_wrong_version() {
    let (swaps, requests) = if is_long_run() { (100, 100_000) } else { (20, 5_000) };
    let name = |generation: u64| format!("{generation:03}");
    for_each_strategy(|strategy| {
        let deployed = Deployed::new(&http_versioned(&name(1)));
        let path = deployed.path();
        let host = Host::serve(&["tcp://127.0.0.1:0", &path, "--concurrency", strategy]);
        let mut load = Load::start(&[url(&host, "")], &Clients { short: 2, long: 2, staying: 1 });
        let started = Instant::now();
        for number in 1..=swaps {
            load.wait_for(number * requests / swaps);
            let name = name(number + 1);
            deployed.replace(&http_versioned(&name));
            let swapped = host.ctl(&["swap", &path]);
            assert!(swapped.code == Some(0), "{}", swapped.stderr);
            assert_eq!(get(&host.connect(), "/").text(), format!("{name} /\n"));
        }
        let Counted { requests: served, failed, mixed, versions, failures, .. } = load.finish();
        let (time, versions) = (started.elapsed(), versions.len());
        eprintln!(
            "{strategy}: {swaps} swaps in {time:.1?}; {served} requests by {versions} versions: {failed} failed, {mixed} \
             out of order"
        );
        assert_eq!((failed, mixed), (0, 0), "{failures}");
        assert!(served >= requests);
    });
}

#[test]
fn http2_goes_on_by_another_connection_where_it_has_to() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &[]);
        let version = || super::curl(&["--http2-prior-knowledge", &url(&host, "/version")]);
        assert_eq!(version(), "1\n");
        swap(&host, "http_v2");
        assert_eq!(version(), "2\n", "{strategy}");
    }
}

#[test]
fn what_does_not_speak_http_may_take_its_place_all_the_same() {
    for strategy in ["threading", "forking"] {
        let host = serve(strategy, &[]);
        let client = host.connect();
        assert_eq!(get(&client, "/version").text(), "1");
        let swapped = host.ctl(&["swap", &crate::harness::plugin("echo")]);
        assert!(swapped.code == Some(0), "{}", swapped.stderr);
        // The connection speaks HTTP, and is told or closed; a new one speaks what serves.
        client.send(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = String::from_utf8(client.recv_all()).unwrap();
        assert!(answer.is_empty() || answer.contains("503"), "{strategy}: {answer}");
        assert_eq!(host.ask(b"hello"), b"hello");
    }
}
