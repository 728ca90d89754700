//! What is special about a process for each request: who dies, who lives on, and what a child may do.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use plugsock::{ServeAddress, ServerType};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Case, Client, Deployed, Fault, Faults, Host, PATIENCE, Running, children, is_long_run, is_running,
    pattern, plugsock, sandbox, state, status, stop, versioned, wait_until, with_descendants, written,
};

fn forking(args: &[&str]) -> Host {
    Host::serve(&[&["tcp://127.0.0.1:0", "--concurrency", "forking"], args].concat())
}

fn fork_server(host: &Host) -> Pid {
    let mut found = children(host.pid());
    assert_eq!(found.len(), 1, "a host has one fork server");
    found.remove(0)
}

/// Nothing tells when a process is reaped, so this looks until it is.
fn wait_for_children(parent: Pid, count: usize) -> Vec<Pid> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = children(parent);
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < deadline, "{} children instead of {count}", found.len());
        thread::yield_now();
    }
}

/// The sockets that a process holds.
fn sockets(process: Pid) -> BTreeSet<String> {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_pid())).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
}

/// Connections that are served: each has been answered once.
fn open(host: &Host, count: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..count).map(|_| host.connect()).collect();
    for client in &clients {
        client.send(b"a");
        assert_eq!(client.recv_exact(1), b"a");
    }
    clients
}

/// What its instance draws while the fork server tries it out comes from there.
#[test]
fn no_child_draws_the_random_numbers_of_another() {
    let host = forking(&[&written("preview1_random")]);
    let drawn: BTreeSet<Vec<u8>> = (0..3).map(|_| host.ask(b"")).collect();
    assert_eq!(drawn.len(), 3, "{drawn:?}");
    assert!(drawn.iter().all(|numbers| numbers.len() == 16), "{drawn:?}");
}

/// Like [`Host::ask`] of a host that may break off.
fn try_ask(address: &ServeAddress, data: &[u8]) -> io::Result<Vec<u8>> {
    let client = Client::try_connect(address)?;
    (&client.socket).write_all(data)?;
    client.socket.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    (&client.socket).read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_fork_server_has_a_single_thread() {
    let host = forking(&[]);
    assert_eq!(status(fork_server(&host), "Threads:"), "1");
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(status(fork_server(&host), "Threads:"), "1");
}

/// It is instantiated in the fork server, too, where no other thread may wait for its timer. What a reactor holds would
/// be all children's; the one socket is the channel.
#[test]
fn the_fork_server_has_a_single_thread_when_the_handler_waits_at_its_start() {
    for warm in ["0", "1"] {
        let host = forking(&[&written("command_waits_at_start"), "--warm", warm, "--log-level", "debug"]);
        assert_eq!(status(fork_server(&host), "Threads:"), "1");
        assert_eq!(sockets(fork_server(&host)).len(), 1);
        assert!(host.connect().is_closed());
        host.log.wait_for("served request=1 ");
        assert_eq!(status(fork_server(&host), "Threads:"), "1");
    }
}

/// O7: the client sees a close, the place is free again, and nobody else notices.
#[test]
fn a_killed_child_ends_its_own_request_alone() {
    let host = forking(&["--max-children", "4"]);
    let clients = open(&host, 4);
    let server = fork_server(&host);
    kill_process(wait_for_children(server, 4)[0], Signal::KILL).unwrap();
    host.log.wait_for("its process was killed by signal 9");
    wait_for_children(server, 3);
    let (alive, lost): (Vec<_>, Vec<_>) = clients.into_iter().partition(|client| {
        // The one whose process is gone is closed, or reset if it sends.
        let _ = client.socket.send(b"b");
        (&client.socket).read(&mut [0]).is_ok_and(|length| length == 1)
    });
    assert_eq!((alive.len(), lost.len()), (3, 1));
    assert_eq!(host.ask(b"hello"), b"hello");
}

/// Open requests go on in their processes, and new ones wait for the next fork server: none is lost.
#[test]
fn the_fork_server_may_die_under_load() {
    const KILLS: usize = 5;
    const ASKERS: usize = 4;
    let host = forking(&[]);
    let clients = open(&host, 4);
    let address = host.address();
    let (served, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..ASKERS {
            scope.spawn(|| {
                for number in 0..100 {
                    let data = pattern(number);
                    let answered = try_ask(address, &data).is_ok_and(|answer| answer == data);
                    if answered { &served } else { &failed }.fetch_add(1, SeqCst);
                }
            });
        }
        for kill in 1..=KILLS {
            kill_process(fork_server(&host), Signal::KILL).unwrap();
            host.log.wait_for_count("the fork server died", kill);
            // Not before the next one serves: otherwise it would be killed in its cradle.
            assert_eq!(host.ask(b"next"), b"next");
        }
    });
    assert_eq!((served.into_inner(), failed.into_inner()), (ASKERS * 100, 0));
    for client in clients {
        assert_eq!(client.exchange(b"b"), b"b");
    }
}

/// Open requests go on in their processes and end in their time; newcomers wait.
#[test]
fn a_stopped_fork_server_keeps_newcomers_waiting_alone() {
    let host = forking(&["--idle-timeout", "500ms"]);
    let server = fork_server(&host);
    let silent = host.greeted();
    stop(server);
    let waiting = host.connect();
    waiting.send(b"later");
    assert!(silent.is_closed());
    assert!(waiting.has_nothing());
    assert!(host.status().servers[0].open > 0);
    kill_process(server, Signal::CONT).unwrap();
    assert_eq!(waiting.exchange(b""), b"later");
    wait_for_children(server, 0);
    wait_until(|| host.status().servers[0].open == 0);
}

/// Whoever stands still cannot end by itself: it is killed when its request's time is over.
#[test]
fn a_stopped_child_is_killed_in_time() {
    let host = forking(&["--request-time", "2s"]);
    let client = host.connect();
    let server = fork_server(&host);
    let child = wait_for_children(server, 1)[0];
    stop(child);
    assert_eq!(host.ask(b"another"), b"another");
    assert!(client.is_closed());
    host.log.wait_for("its process was killed by signal 9");
    wait_for_children(server, 0);
    assert_eq!(host.ask(b"hello"), b"hello");
}

/// Its version was replaced, and nobody is left who could kill it.
#[test]
fn a_child_that_outlived_its_fork_server_is_cut_off_like_any_other() {
    let deployed = Deployed::new(&versioned("one"));
    let host = forking(&[&deployed.path(), "--max-drain", "50ms"]);
    let client = host.connect();
    client.send(b"1\n");
    assert_eq!(client.recv_exact(6), b"one 1\n");
    kill_process(fork_server(&host), Signal::KILL).unwrap();
    host.log.wait_for("the fork server died");
    deployed.replace(&versioned("two"));
    host.signal(Signal::HUP);
    assert!(client.is_closed());
    host.log.wait_for("cut off 1 requests of a replaced version");
    assert_eq!(host.ask(b"2\n"), b"two 2\n");
}

/// O8: every child is waited for, at once, and no child of anybody else.
#[test]
fn children_are_reaped() {
    const ASKERS: usize = 8;
    let requests = if is_long_run() { 10_000 } else { 2_000 };
    // The host comes to have a child that it did not start, and that has ended.
    let mut command = Command::new("sh");
    command.args(["-c", "true & exec \"$0\" \"$@\""]).arg(plugsock().get_program());
    let allowed = ASKERS.to_string();
    let args = ["tcp://127.0.0.1:0", "--concurrency", "forking", "--max-children", &allowed];
    let host = Host::serve_by(command, &args);
    let found = children(host.pid());
    let (foreign, own): (Vec<_>, Vec<_>) = found.into_iter().partition(|child| !is_running(*child));
    assert_eq!((foreign.len(), own.len()), (1, 1));
    let left = AtomicUsize::new(requests);
    let ask = || {
        while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            assert_eq!(host.ask(b"a"), b"a");
            // A place is free again only when its child has been waited for: so zombies count.
            let count = children(own[0]).len();
            assert!(count <= ASKERS, "{count} children, where {ASKERS} are allowed");
        }
    };
    thread::scope(|scope| (0..ASKERS).for_each(|_| drop(scope.spawn(ask))));
    wait_for_children(own[0], 0);
    assert_eq!(children(host.pid()), [&foreign[..], &own].concat());
    assert!(!is_running(foreign[0]));
}

/// O8: what the program itself has started is left to it.
#[test]
fn a_child_of_the_program_is_not_waited_for() {
    let case = Case { server_type: ServerType::Tcp, strategy: "forking" };
    let server = Running::start(case, sandbox().echo().unwrap());
    let mut foreign = Command::new("false").spawn().unwrap();
    for _ in 0..20 {
        assert_eq!(server.ask(b"a"), b"a");
    }
    assert_eq!(foreign.wait().unwrap().code(), Some(1));
}

#[test]
fn no_more_children_than_allowed() {
    let host = forking(&["--max-children", "2"]);
    let mut clients = open(&host, 2);
    let waiting = host.connect();
    waiting.send(b"c");
    host.log.wait_for("2 requests are open, the most allowed");
    assert_eq!(children(fork_server(&host)).len(), 2);
    assert_eq!(clients.remove(0).exchange(b"b"), b"b");
    assert_eq!(waiting.recv_exact(1), b"c");
}

/// One that dies of everything it is given is started again, and each time after a longer pause.
#[test]
fn a_fork_server_that_keeps_dying_is_started_at_growing_intervals() {
    let Some((faults, host)) = Faults::serve(&["tcp://127.0.0.1:0", "--concurrency", "forking"]) else {
        return;
    };
    faults.set(Fault::NoForks, -6);
    (0..2).for_each(|_| assert!(host.connect().is_closed()));
    let deaths = host.log.wait_for_count("the fork server died", 6);
    // The log says when, in seconds of a minute.
    let second = |line: &String| line[17..26].parse::<f64>().unwrap();
    for (pause, pair) in [0.05, 0.1, 0.2, 0.4].into_iter().zip(deaths[1..].windows(2)) {
        let passed = (second(&pair[1]) - second(&pair[0])).rem_euclid(60.0);
        assert!(passed >= pause, "started again after {passed} s instead of {pause} s");
    }
    assert_eq!(host.ask(b"hello"), b"hello");
}

/// A place is free when its own process has ended, also where the fork server died that made it.
#[test]
fn a_place_does_not_wait_for_a_sibling() {
    let host = forking(&["--max-children", "2"]);
    let mut clients = open(&host, 2);
    kill_process(fork_server(&host), Signal::KILL).unwrap();
    host.log.wait_for("the fork server died");
    assert_eq!(clients.remove(0).exchange(b"b"), b"b");
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(clients.remove(0).exchange(b"b"), b"b");
}

/// What a child has open is its own: no connection or status socket of a sibling, and not the channel.
#[test]
fn a_child_holds_nothing_of_its_siblings() {
    let host = forking(&[]);
    let server = fork_server(&host);
    let clients = open(&host, 4);
    let children = wait_for_children(server, 4);
    let held: Vec<_> = children.iter().map(|child| sockets(*child)).collect();
    for (number, own) in held.iter().enumerate() {
        assert_eq!(own.len(), 2, "its connection and its status socket: {own:?}");
        held[..number].iter().for_each(|other| assert!(own.is_disjoint(other), "{own:?} and {other:?}"));
    }
    // The fork server shares the status sockets of living children, and has its channel besides.
    let rest = sockets(server);
    let shared = held.iter().filter(|own| own.intersection(&rest).count() == 1).count();
    assert_eq!((rest.len(), shared), (5, 4));
    clients.into_iter().for_each(|client| assert_eq!(client.exchange(b"b"), b"b"));
}

/// A child that waits for its client waits, and does nothing else.
#[test]
fn an_idle_child_sleeps() {
    let host = forking(&[]);
    let client = host.greeted();
    let child = wait_for_children(fork_server(&host), 1)[0];
    wait_until(|| state(child) == "S");
    let wakes = || status(child, "voluntary_ctxt_switches:");
    let before = wakes();
    // For longer than some ticks of what lets time pass for a guest that runs.
    (0..100).for_each(|_| assert_eq!(host.ask(b"another"), b"another"));
    assert_eq!(wakes(), before);
    assert_eq!(client.exchange(b"b"), b"b");
}

/// A child that computes gives way to others after a while.
#[test]
fn a_child_that_runs_for_long_has_a_low_priority() {
    let host = Host::tcp("loop_forever", &["--concurrency", "forking", "--cpu-time", "1h"]);
    let client = host.connect();
    let child = wait_for_children(fork_server(&host), 1)[0];
    wait_until(|| rustix::process::getpriority_process(Some(child)).unwrap() > 0);
    kill_process(child, Signal::KILL).unwrap();
    assert!(client.is_closed());
}

/// When the host is killed, nothing that it had started outlives it for long, whatever it waits for.
#[test]
fn children_end_with_the_host() {
    let host = forking(&[]);
    let _clients = open(&host, 3);
    let processes = with_descendants(host.pid());
    assert_eq!(processes.len(), 5);
    host.signal(Signal::KILL);
    wait_until(|| !processes.iter().any(|process| is_running(*process)));
}

#[test]
fn a_child_can_do_little() {
    let host = forking(&["--memory", "64MiB", "--cpu-time", "3s"]);
    let _clients = open(&host, 1);
    let child = wait_for_children(fork_server(&host), 1)[0];
    assert_eq!(status(child, "NoNewPrivs:"), "1");
    assert_eq!(status(child, "Seccomp:"), "2");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.as_raw_pid())).unwrap();
    let limit = |name: &str| {
        let line: &str = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max cpu time"), "5");
    let (memory, stack, own) = (64 << 20, 512 << 10, 512 << 20);
    assert_eq!(limit("Max data size"), u64::to_string(&(memory + stack + own)));
}
