//! A process for each request, and what becomes of the others when one of them dies.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Client, Host};

fn serve() -> Host {
    Host::serve(&["tcp://127.0.0.1:0", "--concurrency", "forking"])
}

/// A client whose request a child is serving.
fn greeted(host: &Host) -> Client {
    let client = host.connect();
    client.send(b"a");
    assert_eq!(client.recv_exact(1), b"a");
    client
}

/// The fork server of a host, and its children.
fn processes(host: &Host) -> (Pid, Vec<Pid>) {
    let [server] = host.children_of(host.pid())[..] else { panic!("a host has one fork server") };
    (server, host.children_of(server))
}

/// O7
#[test]
fn a_child_that_is_killed_takes_nothing_with_it() {
    let host = serve();
    host.ask(b"");
    let before = host.resources();
    let (victim, other) = (greeted(&host), greeted(&host));
    let (_, children) = processes(&host);
    assert_eq!(children.len(), 2);
    kill_process(*children.iter().min_by_key(|pid| pid.as_raw_nonzero()).unwrap(), Signal::KILL).unwrap();
    assert!(victim.is_closed());
    let line = host.log.wait_for("killed by signal 9");
    assert!(line.contains("request=2 "), "{line}");
    assert_eq!(other.exchange(b"still here"), b"still here");
    assert_eq!(host.ask(b"hello"), b"hello");
    host.wait_for_resources(&before);
}

/// Clients wait until there is a new one; children of the old one serve on.
#[test]
fn a_fork_server_that_is_killed_is_started_again() {
    let host = serve();
    let open = greeted(&host);
    let (server, _) = processes(&host);
    kill_process(server, Signal::KILL).unwrap();
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_ne!(processes(&host).0, server);
    assert_eq!(open.exchange(b"still here"), b"still here");
}

/// The children die with a host that is killed, and their clients see it.
#[test]
fn nothing_outlives_a_host_that_is_killed() {
    let mut host = serve();
    let client = greeted(&host);
    host.signal(Signal::KILL);
    host.wait();
    assert!(client.is_closed());
}
