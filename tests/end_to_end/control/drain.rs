//! A server that accepts nothing for a while.

use plugsock::control::ServerState;

use super::{TCP, done, is_refused, wait_until};
use crate::harness::{Client, Host, for_each_strategy, guest};

fn states(host: &Host) -> Vec<ServerState> {
    host.status().servers.iter().map(|server| server.state).collect()
}

/// A host with one request that is being served.
fn busy(args: &[&str]) -> (Host, Client) {
    let host = Host::serve(&[&[TCP], args].concat());
    let client = host.connect();
    client.send(b"a");
    assert_eq!(client.recv_exact(1), b"a");
    (host, client)
}

#[test]
fn new_clients_wait_until_the_server_resumes() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&[TCP, "udp://127.0.0.1:0", "--concurrency", strategy]);
        assert_eq!(done(host.ctl(&["drain"])), "draining: no new requests; 0 are open\ndrained\n");
        assert_eq!(states(&host), [ServerState::Drained; 2]);
        let clients: Vec<_> = host.addresses.iter().map(Client::connect).collect();
        for client in &clients {
            client.send(b"hello");
            client.half_close();
        }
        assert_eq!(done(host.ctl(&["status"])).matches("drained").count(), 2);
        assert!(clients.iter().all(Client::has_nothing));
        assert_eq!(done(host.ctl(&["resume"])), "accepting again\n");
        for client in &clients {
            assert_eq!(client.recv_exact(5), b"hello");
        }
    });
}

#[test]
fn a_drain_waits_for_what_is_open() {
    for_each_strategy(|strategy| {
        if strategy == "sync" {
            return;
        }
        let (host, client) = busy(&["--concurrency", strategy]);
        is_refused(&host.ctl(&["drain", "--timeout", "100ms"]), &["1 requests are still open after 100ms"]);
        assert_eq!(states(&host), [ServerState::Draining]);
        std::thread::scope(|scope| {
            let drained = scope.spawn(|| host.ctl(&["drain"]));
            assert_eq!(client.exchange(b"b"), b"b");
            assert!(done(drained.join().unwrap()).ends_with("\ndrained\n"));
        });
        assert_eq!(states(&host), [ServerState::Drained]);
    });
}

/// A `sync` server serves on the thread that would pause.
#[test]
fn a_drain_waits_for_what_a_sync_server_serves() {
    let (host, client) = busy(&["--concurrency", "sync"]);
    is_refused(&host.ctl(&["drain", "--timeout", "100ms"]), &["1 requests are still open"]);
    assert_eq!(client.exchange(b"b"), b"b");
    assert!(done(host.ctl(&["drain"])).ends_with("\ndrained\n"));
}

/// O4
#[test]
fn a_swap_during_a_drain_is_for_those_who_wait() {
    for_each_strategy(|strategy| {
        if strategy == "sync" {
            return;
        }
        let (host, old) = busy(&["--concurrency", strategy]);
        is_refused(&host.ctl(&["drain", "--timeout", "0s"]), &["still open"]);
        let new = host.connect();
        done(host.ctl(&["swap", &guest("v2")]));
        assert!(new.has_nothing());
        // What was open stays with its version, and ends.
        assert_eq!(old.exchange(b"b"), b"b");
        assert!(done(host.ctl(&["drain"])).ends_with("\ndrained\n"));
        done(host.ctl(&["resume"]));
        assert_eq!(new.exchange(b""), b"v2\n");
        let generations: Vec<_> =
            host.status().slots[0].versions.iter().map(|version| version.generation).collect();
        assert_eq!(generations, [2, 1]);
    });
}

#[test]
fn a_drain_ends_when_the_server_is_resumed() {
    let (host, client) = busy(&[]);
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| host.ctl(&["drain"]));
        host.log.wait_for(r#"asked for {"command":"drain"}"#);
        wait_until(|| states(&host) == [ServerState::Draining]);
        done(host.ctl(&["resume"]));
        is_refused(&drained.join().unwrap(), &["somebody resumed"]);
    });
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(client.exchange(b"b"), b"b");
}

#[test]
fn a_paused_host_can_be_shut_down() {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(&[TCP, "--concurrency", strategy]);
        done(host.ctl(&["drain"]));
        done(host.ctl(&["shutdown"]));
        assert_eq!(host.wait().code(), Some(0));
    });
}
