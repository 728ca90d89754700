//! Another process of the host takes over: the sockets stay, and so does every request.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use crate::harness::{
    Client, Host, PATIENCE, for_each_strategy, guest, is_running, pattern, plugin, plugsock, run, wait_until,
};

/// Asks the host to be replaced, and returns who replaced it.
pub fn upgrade(host: &Host) -> Pid {
    host.signal(Signal::USR2);
    let line = host.log.wait_for("has taken over");
    let (_, rest) = line.split_once("process ").unwrap();
    Pid::from_raw(rest.split(' ').next().unwrap().parse().unwrap()).unwrap()
}

/// Ends the successor, after which the log that both wrote has its end.
pub fn end(mut host: Host, successor: Pid) {
    let process = pidfd_open(successor, PidfdFlags::empty()).unwrap();
    kill_process(successor, Signal::TERM).unwrap();
    assert!(host.wait().success());
    let patience = PATIENCE.try_into().unwrap();
    assert_eq!(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)), Ok(1));
}

#[test]
fn clients_notice_nothing() {
    for_each_strategy(|strategy| {
        let directory = TempDir::new().unwrap();
        let unix = |scheme: &str, name: &str| format!("{scheme}://{}", directory.path().join(name).display());
        let (stream, datagram) = (unix("unix", "stream"), unix("unixgram", "datagram"));
        let addresses = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &stream, &datagram];
        let host = Host::serve(&[&addresses[..], &["--concurrency", strategy]].concat());
        let addresses = host.addresses.clone();
        // With `sync` an open request would keep the old process from all others.
        let open = (strategy != "sync").then(|| {
            let open = host.connect();
            open.send(b"before");
            assert_eq!(open.recv_exact(6), b"before");
            open
        });
        let is_over = AtomicBool::new(false);
        let (successor, answered) = thread::scope(|scope| {
            let clients: Vec<_> = addresses
                .iter()
                .map(|address| {
                    scope.spawn(|| {
                        let mut answered = 0;
                        while !is_over.load(SeqCst) || answered < 100 {
                            let data = pattern(answered % 1000 + 1);
                            assert_eq!(Client::ask(address, &data), data);
                            answered += 1;
                        }
                        answered
                    })
                })
                .collect();
            let successor = upgrade(&host);
            // All of this may still be answered by either.
            addresses.iter().for_each(|address| assert_eq!(Client::ask(address, b"now"), b"now"));
            is_over.store(true, SeqCst);
            (successor, clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>())
        });
        assert!(answered >= 400);
        if let Some(open) = open {
            assert!(is_running(host.pid()), "it left an open request alone");
            assert_eq!(open.exchange(b"after"), b"after");
        }
        host.wait_for_exit();
        addresses.iter().for_each(|address| assert_eq!(Client::ask(address, b"later"), b"later"));
        end(host, successor);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files are left");
    });
}

/// The old process has accepted them, but has no room for the one and does not know yet whose the other is: it serves
/// them before it ends.
#[test]
fn who_was_accepted_and_not_begun_with_is_served_all_the_same() {
    let header = |port: u16| format!("PROXY TCP4 192.0.2.1 10.0.0.1 {port} 80\r\n").into_bytes();
    for_each_strategy(|strategy| {
        let args = ["tcp://127.0.0.1:0", "--concurrency", strategy, "--log-level", "debug"];
        let clients = ["--max-connections", "1", "--deny", "10.0.0.0/8", "--proxy-protocol", "127.0.0.1"];
        let host = Host::serve(&[&args[..], &clients].concat());
        let open = host.connect();
        open.send(&[&header(1)[..], b"a"].concat());
        assert_eq!(open.recv_exact(1), b"a");
        let before = host.descriptors();
        let accepts = |count| wait_until(|| strategy == "sync" || host.descriptors() == before + count);
        let unknown = host.connect();
        unknown.send(&header(2)[..10]);
        accepts(1);
        let without_place = host.connect();
        without_place.send(&header(3));
        accepts(2);
        let successor = upgrade(&host);
        assert!(is_running(host.pid()), "it left what it had accepted alone");
        assert_eq!(open.exchange(b"b"), b"b");
        assert_eq!(without_place.exchange(b"hello"), b"hello");
        unknown.send(&header(2)[10..]);
        assert_eq!(unknown.exchange(b"hello"), b"hello");
        (1..=3).for_each(|port| drop(host.log.wait_for(&format!(" client=192.0.2.1:{port}"))));
        host.wait_for_exit();
        end(host, successor);
    });
}

/// What has been swapped in stays, though the command line names another file's earlier content.
#[test]
fn what_serves_goes_on_serving_under_a_new_generation() {
    let directory = TempDir::new().unwrap();
    let handler = directory.path().join("handler.wasm");
    std::fs::copy(guest("v2"), &handler).unwrap();
    let host = Host::serve(&["tcp://127.0.0.1:0", handler.to_str().unwrap()]);
    let next = directory.path().join("next.wasm");
    std::fs::copy(guest("server_info"), &next).unwrap();
    std::fs::rename(&next, &handler).unwrap();
    host.signal(Signal::HUP);
    host.log.wait_for("generation=2");
    let successor = upgrade(&host);
    host.wait_for_exit();
    let answer = String::from_utf8(host.ask(b"")).unwrap();
    assert!(answer.contains("generation=3\n"), "{answer}");
    end(host, successor);
}

/// One upgrade after the other: each process hands over what it was given.
#[test]
fn a_successor_has_successors() {
    let directory = TempDir::new().unwrap();
    let address = format!("unix://{}", directory.path().join("socket").display());
    let host = Host::serve(&[&address]);
    let mut last = upgrade(&host);
    host.wait_for_exit();
    for number in 2..=4 {
        kill_process(last, Signal::USR2).unwrap();
        let lines = host.log.wait_for_count("has taken over", number);
        let (_, rest) = lines[number - 1].split_once("process ").unwrap();
        last = Pid::from_raw(rest.split(' ').next().unwrap().parse().unwrap()).unwrap();
        assert_eq!(host.ask(b"hello"), b"hello");
    }
    end(host, last);
}

/// The old process serves on, with its files, whatever the new one fails of.
#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let executable = at("plugsock");
    install(plugsock().get_program().as_ref(), &executable);
    let handler = at("handler.wasm");
    std::fs::copy(plugin("upper"), &handler).unwrap();
    let address = format!("unix://{}", at("socket").display());
    let mut host = Host::serve_by(Command::new(&executable), &[&address, handler.to_str().unwrap()]);
    let mut failures = 0;
    let mut fails = |reason: &str| {
        failures += 1;
        host.signal(Signal::USR2);
        let lines = host.log.wait_for_count("this process serves on", failures);
        assert!(lines[failures - 1].contains(reason), "{}", lines[failures - 1]);
        assert_eq!(host.ask(b"hello"), b"HELLO");
        assert!(at("socket").exists() && at("socket.lock").exists());
    };
    // Its handler is gone.
    std::fs::rename(&handler, at("away.wasm")).unwrap();
    fails("exit status: 1");
    std::fs::rename(at("away.wasm"), &handler).unwrap();
    // It is something else, which ends at once.
    replace(&executable, Some("#!/bin/sh\nexit 3\n"));
    fails("exit status: 3");
    // It is no program.
    replace(&executable, Some("nonsense"));
    fails("Exec format error");
    replace(&executable, None);
    fails("No such file");
    assert!(host.terminate().success());
}

/// Puts another executable where a running one lies.
fn replace(executable: &Path, content: Option<&str>) {
    std::fs::remove_file(executable).unwrap();
    if let Some(content) = content {
        let (text, new) = (executable.with_extension("text"), executable.with_extension("new"));
        std::fs::write(&text, content).unwrap();
        install(&text, &new);
        std::fs::rename(&new, executable).unwrap();
    }
}

/// Copies an executable in another process: a file that this one has written may still be open in a process that is
/// being started by another test, and then it cannot be executed.
fn install(from: &Path, to: &Path) {
    assert!(Command::new("install").arg(from).arg(to).status().unwrap().success());
}

/// The control socket is where it was, if it was told to be there, and finds the new process.
#[test]
fn the_control_socket_is_taken_over_too() {
    let directory = TempDir::new().unwrap();
    let control = directory.path().join("control").display().to_string();
    let host = Host::serve(&["tcp://127.0.0.1:0", "--control", &control]);
    let ctl = |args: &[&str]| {
        let ended = run(plugsock().args(["ctl", "--control", &control]).args(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let mut last = host.pid();
    for _ in 0..2 {
        let said = ctl(&["upgrade"]);
        let pid = said.strip_prefix("process ").and_then(|rest| rest.strip_suffix(" has taken over\n"));
        let successor = Pid::from_raw(pid.unwrap().parse().unwrap()).unwrap();
        assert_ne!(successor, last);
        last = successor;
        assert_eq!(host.ask(b"hello"), b"hello");
        // The old process may still take a client, until it has nothing left to do.
        host.wait_for_exit();
        assert!(ctl(&["status", "--json"]).contains(&format!("\"pid\": {}", last.as_raw_pid())));
    }
    end(host, last);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files are left");
}

/// Whoever asked hears why nothing has changed.
#[test]
fn an_upgrade_that_fails_is_refused_with_its_reason() {
    let directory = TempDir::new().unwrap();
    let executable = directory.path().join("plugsock");
    install(plugsock().get_program().as_ref(), &executable);
    let mut host = Host::serve_by(Command::new(&executable), &["tcp://127.0.0.1:0"]);
    replace(&executable, Some("#!/bin/sh\nexit 3\n"));
    let ended = host.ctl(&["upgrade"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("it ended before it was ready (exit status: 3)"), "{ended:?}");
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(host.terminate().success());
}
