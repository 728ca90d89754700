//! Signals to the command: no new requests, the open ones end or are cut off, and a second signal means now.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Client, Host, for_each_strategy, guest, is_running, wait_until, with_descendants};

const TCP: &str = "tcp://127.0.0.1:0";

fn serve(strategy: &str, args: &[&str]) -> Host {
    Host::serve(&[&[TCP, "--concurrency", strategy], args].concat())
}

/// A host with one request that is being served.
fn busy(strategy: &str, args: &[&str]) -> (Host, Client) {
    let host = serve(strategy, args);
    let client = host.greeted();
    (host, client)
}

/// O5
#[test]
fn an_idle_host_ends_well_at_either_signal() {
    for_each_strategy(|strategy| {
        for signal in [Signal::TERM, Signal::INT] {
            let mut host = serve(strategy, &[]);
            host.ask(b"hello");
            host.signal(signal);
            assert_eq!(host.wait().code(), Some(0));
        }
    });
}

/// O5
#[test]
fn open_requests_end_in_peace() {
    for_each_strategy(|strategy| {
        let (mut host, client) = busy(strategy, &[]);
        host.signal(Signal::TERM);
        host.log.wait_for("shutting down");
        client.send(b"b");
        assert_eq!(client.recv_exact(1), b"b");
        assert_eq!(client.exchange(b"c"), b"c");
        assert_eq!(host.wait().code(), Some(0));
        assert!(Client::try_connect(host.address()).is_err());
    });
}

/// O5
#[test]
fn requests_that_do_not_end_are_cut_at_the_shutdown_timeout() {
    for_each_strategy(|strategy| {
        let (mut host, client) = busy(strategy, &["--shutdown-timeout", "100ms"]);
        host.signal(Signal::TERM);
        assert!(client.is_closed());
        assert_eq!(host.wait().code(), Some(0));
        host.log.wait_for("cut off 1 request");
    });
}

/// O5: whatever a guest is doing.
#[test]
fn guests_that_loop_or_sleep_are_cut_at_the_shutdown_timeout() {
    for_each_strategy(|strategy| {
        for name in ["loop_forever", "sleep_forever"] {
            let args = ["--shutdown-timeout", "100ms", "--cpu-time", "none", "--max-requests", "1"];
            let mut host = serve(strategy, &[&[&*guest(name)], &args[..]].concat());
            let client = host.connect();
            if strategy != "sync" {
                // Which says that the request is open.
                host.log.wait_for("1 requests are open");
            }
            assert_eq!(host.terminate().code(), Some(0), "{name}");
            assert!(client.is_closed());
        }
    });
}

/// O5
#[test]
fn a_second_signal_ends_the_host_at_once() {
    for_each_strategy(|strategy| {
        let (mut host, client) = busy(strategy, &[]);
        host.signal(Signal::TERM);
        host.log.wait_for("shutting down");
        host.signal(Signal::INT);
        assert_eq!(host.wait().code(), Some(128 + Signal::INT.as_raw()));
        assert!(client.is_closed());
    });
}

/// The kernel does it for most strategies; the processes of `forking` have to die with their host. The next host
/// serves at once where that one did.
#[test]
fn nothing_outlives_a_host_that_is_killed() {
    for_each_strategy(|strategy| {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let [unix, unixgram] = [format!("unix://{}", at("stream")), format!("unixgram://{}", at("datagram"))];
        let serve = |tcp: &str| Host::serve(&[tcp, &unix, &unixgram, "--concurrency", strategy]);
        let mut host = serve("tcp://127.0.0.1:0");
        let clients = [0, 1].map(|index| Client::greeted(&host.addresses[index]));
        let processes = with_descendants(host.pid());
        assert_eq!(processes.len(), if strategy == "forking" { 1 + 3 + 2 } else { 1 });
        host.signal(Signal::KILL);
        host.wait();
        assert!(clients.iter().all(Client::is_closed));
        wait_until(|| !processes.iter().any(|process| is_running(*process)));
        let mut next = serve(&host.address().to_string());
        for address in &next.addresses {
            assert_eq!(Client::ask(address, b"hello"), b"hello");
        }
        assert!(next.terminate().success());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    });
}

#[test]
fn daemon_threads_are_not_waited_for() {
    for option in ["--daemon-threads", "--no-block-on-close"] {
        let (mut host, client) = busy("threading", &[option]);
        assert_eq!(host.terminate().code(), Some(0));
        assert!(client.is_closed());
    }
}

#[test]
fn datagram_servers_end_too() {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(&["udp://127.0.0.1:0", "--concurrency", strategy]);
        assert_eq!(host.ask(b"hello"), b"hello");
        assert_eq!(host.terminate().code(), Some(0));
    });
}
