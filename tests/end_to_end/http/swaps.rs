//! A swap changes the answer between two requests of one connection, and never within one; it loses none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use super::{Answer, get, serve, url};
use crate::harness::{Client, Host, guest};

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

/// Asks until told to stop, by connections that are kept or not; what it was answered must not go back.
fn ask_on(host: &Host, is_kept: bool, is_over: &AtomicBool, swaps: &AtomicU64) -> u64 {
    let mut count = 0;
    let mut client: Option<Client> = None;
    while !is_over.load(SeqCst) {
        let connected = client.take().unwrap_or_else(|| host.connect());
        let before = swaps.load(SeqCst);
        let header = if is_kept { "" } else { "Connection: close\r\n" };
        connected.send(format!("GET /version HTTP/1.1\r\nHost: x\r\n{header}\r\n").as_bytes());
        let answer = Answer::read(&connected);
        let after = swaps.load(SeqCst);
        assert_eq!(answer.status, 200, "{answer:?}");
        // Each swap goes from one to the other: where none came between, it is known who must have answered.
        if before == after && before.is_multiple_of(2) {
            let expected = if (before / 2).is_multiple_of(2) { "1" } else { "2" };
            assert_eq!(answer.text(), expected, "after {} swaps", before / 2);
        }
        if is_kept && answer.header("connection") != Some("close") {
            client = Some(connected);
        }
        count += 1;
    }
    count
}

#[test]
fn no_request_is_lost_or_answered_by_the_wrong_version() {
    for strategy in ["sync", "threading", "forking", "pool", "async"] {
        let host = serve(strategy, &[]);
        let (is_over, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
        let asked: u64 = thread::scope(|scope| {
            let ask = |is_kept| {
                let (host, is_over, swaps) = (&host, &is_over, &swaps);
                scope.spawn(move || ask_on(host, is_kept, is_over, swaps))
            };
            let clients = [true, true, true, false].map(ask);
            for number in 0..20 {
                // Odd while one is under way.
                swaps.fetch_add(1, SeqCst);
                swap(&host, if number % 2 == 0 { "http_v2" } else { "http" });
                swaps.fetch_add(1, SeqCst);
            }
            is_over.store(true, SeqCst);
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        assert!(asked > 40, "{strategy}: {asked}");
    }
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
