//! Another process of the host takes over: the sockets stay, and so does every request.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use plugsock::Digest;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use crate::harness::{
    Client, Deployed, Host, PATIENCE, cache_dir, for_each_strategy, guest, is_running, padded, pattern,
    plugin, plugsock, replace as replace_file, run, versioned, wait_until,
};

/// Asks the host to be replaced, and returns who replaced it.
pub fn upgrade(host: &Host) -> Pid {
    host.signal(Signal::USR2);
    successor_in(&host.log.wait_for("has taken over"))
}

fn successor_in(line: &str) -> Pid {
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

const TCP: &str = "tcp://127.0.0.1:0";

/// Has a host roll a failing handler back that was put in the place of a good one.
fn rolled_back(deployed: &Deployed, put: impl Fn(&[u8])) -> Host {
    let policy = ["--rollback-on", "errors>20%/1h/3", "--watch", "--log-level", "debug"];
    let host = Host::serve(&[&[TCP, &deployed.path()], &policy[..]].concat());
    put(&std::fs::read(guest("trap_in_handle")).unwrap());
    host.log.wait_for(": swapped: ");
    (0..3).for_each(|_| assert!(host.ask(b"1\n").starts_with(b"setup\n")));
    host.log.wait_for("rolled back sha256:");
    assert_eq!(host.ask(b"1\n"), b"one 1\n");
    has_looked(&host, deployed);
    host
}

/// Waits until whoever watches the file has looked at it again and found it as it was: for that, something happens
/// beside it.
fn has_looked(host: &Host, deployed: &Deployed) {
    let looks = "handler.wasm is as it was";
    let before = host.log.lines_with(looks).len();
    std::fs::write(deployed.directory().join("beside"), "").unwrap();
    host.log.wait_for_count(looks, before + 1);
}

/// Neither because its file is what lies at the path, nor when it is offered again.
#[test]
fn what_was_rolled_back_stays_away() {
    let puts: [fn(&Path, &[u8]); 2] =
        [replace_file, |file, component| std::fs::write(file, component).unwrap()];
    for put in puts {
        let deployed = Deployed::new(&versioned("one"));
        let host = rolled_back(&deployed, |component| put(&deployed.file, component));
        let successor = upgrade(&host);
        host.wait_for_exit();
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
        has_looked(&host, &deployed);
        assert_eq!(host.log.lines_with("was rolled back before"), Vec::<String>::new());
        kill_process(successor, Signal::HUP).unwrap();
        host.log.wait_for("was rolled back before, because 3 of its first 3 requests failed");
        let refused = host.ctl(&["swap", &deployed.path()]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("was rolled back before"), "{refused:?}");
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
        // Until it is forced, or the file is another.
        let forced = host.ctl(&["swap", &deployed.path(), "--force"]);
        assert_eq!(forced.code, Some(0), "{forced:?}");
        assert_eq!(host.ask(b"1\n"), b"setup\nhandle\n");
        deployed.replace(&versioned("two"));
        host.log.wait_for_count(": swapped: ", 4);
        assert_eq!(host.ask(b"1\n"), b"two 1\n");
        end(host, successor);
    }
}

/// It serves on from memory: from successor to successor, whatever has become of its file.
#[test]
fn what_serves_needs_its_file_no_more() {
    for_each_strategy(|strategy| {
        let deployed = Deployed::new(&versioned("one"));
        let key = deployed.directory().join("key");
        let sign = |args: &[&str]| assert_eq!(run(plugsock().args(args)).code, Some(0), "{args:?}");
        sign(&["keygen", "--no-password", &key.display().to_string()]);
        let key = |extension| key.with_extension(extension).display().to_string();
        let public = key("pub");
        sign(&["sign", "--key", &key("key"), &deployed.path()]);
        let args = [TCP, &deployed.path(), "--concurrency", strategy, "--public-key", &public];
        let host = Host::serve(&args);
        std::fs::remove_file(&deployed.file).unwrap();
        let mut last = upgrade(&host);
        host.wait_for_exit();
        std::fs::write(&deployed.file, "not a component").unwrap();
        let process = pidfd_open(last, PidfdFlags::empty()).unwrap();
        kill_process(last, Signal::USR2).unwrap();
        let line = host.log.wait_for_count("has taken over", 2).remove(1);
        last = successor_in(&line);
        let patience = PATIENCE.try_into().unwrap();
        assert_eq!(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)), Ok(1));
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
        end(host, last);
    });
}

/// The file must be the same where there was no room for a copy.
#[test]
fn what_could_not_be_kept_is_loaded_from_its_file_or_not_at_all() {
    const LARGE: usize = 4 << 20;
    let [one, two] = ["one", "two"].map(|name| padded(versioned(name), LARGE));
    let deployed = Deployed::new(&one);
    let check = || run(plugsock().arg("check").arg(&deployed.file).arg("--cache-dir").arg(cache_dir()));
    // Nothing that large may be written, so it is to be in the cache by now.
    assert_eq!(check().code, Some(0));
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 2048; exec \"$0\" \"$@\""]).arg(plugsock().get_program());
    let host = Host::serve_by(shell, &[TCP, &deployed.path()]);
    deployed.replace(&two);
    assert_eq!(check().code, Some(0));
    host.signal(Signal::USR2);
    host.log.wait_for("this process serves on");
    let line = host.log.wait_for("could not be kept in memory");
    let digest = Digest::of(&one).to_string();
    assert!(line.contains(&format!("and {digest} is wanted")) && line.contains("swap to the file"), "{line}");
    assert_eq!(host.ask(b"1\n"), b"one 1\n");
    host.signal(Signal::HUP);
    host.log.wait_for(": swapped: ");
    let successor = upgrade(&host);
    host.wait_for_exit();
    assert_eq!(host.ask(b"1\n"), b"two 1\n");
    end(host, successor);
}

/// Its share is not to become all of it, nor its trial to go on unseen.
#[test]
fn a_canary_is_given_up_and_that_is_said() {
    let host = Host::serve(&[TCP]);
    let swapped = host.ctl(&["swap", &guest("v2"), "--canary", "50%"]);
    assert_eq!(swapped.code, Some(0), "{swapped:?}");
    let successor = upgrade(&host);
    host.log.wait_for("the canary is given up: sha256:");
    host.wait_for_exit();
    (0..10).for_each(|_| assert_eq!(host.ask(b"a"), b"a"));
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
        last = successor_in(&lines[number - 1]);
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
    // It is something else, which ends at once.
    replace(&executable, Some("#!/bin/sh\nexit 3\n"));
    fails("exit status: 3");
    // It is no program.
    let path = executable.display().to_string();
    replace(&executable, Some("nonsense"));
    fails(&format!("cannot start {path}: Exec format error"));
    replace(&executable, None);
    fails(&format!("cannot start {path}: No such file"));
    assert!(host.terminate().success());
}

/// E7: a link in the path by which the host was started leads to another release by now, which says so.
#[test]
fn the_path_to_the_executable_is_followed_anew() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let plugsock = plugsock().get_program().to_owned();
    for release in ["one", "two"] {
        std::fs::create_dir(at(release)).unwrap();
    }
    install(plugsock.as_ref(), &at("one/plugsock"));
    std::fs::write(at("text"), "#!/bin/sh\necho release two >&2\nexec \"$PLUGSOCK\" \"$@\"\n").unwrap();
    install(&at("text"), &at("two/plugsock"));
    let turn = |to: &str| {
        symlink(to, at("beside")).unwrap();
        std::fs::rename(at("beside"), at("current")).unwrap();
    };
    let path = at("current").display().to_string();
    // By an absolute path, a relative one, and a name in the `PATH`.
    for (path, command) in
        [("", at("current/plugsock")), ("", "./current/plugsock".into()), (&path, "plugsock".into())]
    {
        turn("one");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "PATH=$0:$PATH; exec \"$@\"", path]).arg(&command);
        shell.current_dir(directory.path()).env("PLUGSOCK", &plugsock);
        let host = Host::serve_by(shell, &["tcp://127.0.0.1:0"]);
        turn("two");
        let successor = upgrade(&host);
        host.log.wait_for("release two");
        host.wait_for_exit();
        assert_eq!(host.ask(b"hello"), b"hello");
        end(host, successor);
    }
}

/// What a program is told of its name need not be so.
#[test]
fn a_name_that_is_another_programs_is_not_started() {
    for name in ["/bin/true", "true", "", "plugsock", "-plugsock", "no/such/file"] {
        let mut command = plugsock();
        command.arg0(name);
        let host = Host::serve_by(command, &["tcp://127.0.0.1:0"]);
        let successor = upgrade(&host);
        host.wait_for_exit();
        assert_eq!(host.ask(b"hello"), b"hello");
        end(host, successor);
    }
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

/// From when a process has taken over, nobody who comes to the control socket finds the one before, which may end before it answers.
#[test]
fn whoever_comes_to_the_control_socket_finds_the_new_process() {
    let directory = TempDir::new().unwrap();
    let control = directory.path().join("control").display().to_string();
    let host = Host::serve(&["tcp://127.0.0.1:0", "--control", &control]);
    // It lives on meanwhile.
    let open = host.greeted();
    let successor = upgrade(&host);
    for _ in 0..20 {
        let ended = run(plugsock().args(["ctl", "status", "--json", "--control", &control]));
        let status: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(status["pid"], successor.as_raw_pid(), "{ended:?}");
    }
    assert_eq!(open.exchange(b"on"), b"on");
    drop(open);
    end(host, successor);
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
        assert!(ctl(&["status", "--json"]).contains(&format!("\"pid\": {}", last.as_raw_pid())));
        host.wait_for_exit();
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
