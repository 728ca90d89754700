//! How `ctl` finds the server that is meant, and who may ask it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{TCP, done, is_error, wait_until};
use crate::harness::{Ended, Host, RUNTIME_DIR, is_installed, plugin, plugsock, run};

/// Runs `plugsock ctl` with its runtime directory here.
fn ctl_in(runtime: &TempDir, args: &[&str]) -> Ended {
    run(plugsock().arg("ctl").args(args).env(RUNTIME_DIR, runtime.path()))
}

fn serve_in(runtime: &TempDir, args: &[&str]) -> Host {
    let mut command = plugsock();
    command.env(RUNTIME_DIR, runtime.path());
    Host::serve_by(command, args)
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn without_a_server_there_is_nothing_to_control() {
    let runtime = TempDir::new().unwrap();
    is_error(&ctl_in(&runtime, &["status"]), 3, &["no server to control", "--no-control"]);
    // To look for one leaves nothing behind.
    assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0);
    is_error(&ctl_in(&runtime, &["--control", "/no/such/socket", "status"]), 3, &["/no/such/socket"]);
    is_error(&ctl_in(&runtime, &["--control", "4194305", "status"]), 3, &["no process 4194305"]);
    let own = std::process::id().to_string();
    is_error(&ctl_in(&runtime, &["--control", &own, "status"]), 3, &["no control socket"]);
}

#[test]
fn one_of_several_servers_has_to_be_named() {
    let runtime = TempDir::new().unwrap();
    let hosts = [serve_in(&runtime, &[TCP]), serve_in(&runtime, &["udp://127.0.0.1:0"])];
    let ended = ctl_in(&runtime, &["status"]);
    is_error(&ended, 3, &["several servers run", "--control"]);
    for host in &hosts {
        let pid = host.pid().as_raw_pid().to_string();
        let address = host.address().to_string();
        assert!(ended.stderr.contains(&pid) && ended.stderr.contains(&address), "{ended:?}");
        let asked = |place: &str| done(ctl_in(&runtime, &["--control", place, "versions"]));
        assert!(done(ctl_in(&runtime, &["--control", &pid, "status"])).contains(&address));
        let socket = runtime.path().join("plugsock").join(format!("{pid}.sock"));
        assert_eq!(mode(&socket), 0o600);
        assert_eq!(asked(socket.to_str().unwrap()), asked(&pid));
    }
    assert_eq!(mode(&runtime.path().join("plugsock")), 0o700);
    // One that only ends what it has begun is not meant.
    let [mut ending, serving] = hosts;
    let client = ending.connect();
    client.send(b"a");
    assert_eq!(client.recv_exact(1), b"a");
    ending.signal(Signal::TERM);
    ending.log.wait_for("shutting down");
    wait_until(|| ctl_in(&runtime, &["status"]).code == Some(0));
    assert!(done(ctl_in(&runtime, &["status"])).contains(&serving.address().to_string()));
    drop(client);
    ending.wait();
}

/// O10
#[test]
fn what_a_killed_server_left_is_removed() {
    let runtime = TempDir::new().unwrap();
    let directory = runtime.path().join("plugsock");
    let files = || fs::read_dir(&directory).unwrap().count();
    let mut killed = serve_in(&runtime, &[TCP]);
    killed.signal(Signal::KILL);
    killed.wait();
    assert_eq!(files(), 2);
    is_error(&ctl_in(&runtime, &["status"]), 3, &["no server to control"]);
    assert_eq!(files(), 0);
    let mut killed = serve_in(&runtime, &[TCP]);
    killed.signal(Signal::KILL);
    killed.wait();
    let mut host = serve_in(&runtime, &[TCP]);
    assert_eq!(files(), 2);
    done(ctl_in(&runtime, &["status"]));
    host.terminate();
    assert_eq!(files(), 0);
}

#[test]
fn the_socket_may_be_elsewhere_or_not_be_at_all() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("my.sock");
    let path = path.to_str().unwrap();
    let mut host = Host::serve(&[TCP, "--control", path]);
    assert!(!host.control_socket().exists());
    assert_eq!(mode(path.as_ref()), 0o600);
    for args in [
        &["--control", path, "status"][..],
        &["status", "--control", path],
        &["swap", &plugin("upper"), "--control", path],
    ] {
        done(host.ctl(args));
    }
    is_error(&host.ctl(&["status"]), 3, &["no server to control"]);
    let second = run(plugsock().args(["serve", TCP, "--no-cache", "--control", path]));
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("another server uses this address"), "{second:?}");
    host.terminate();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    let host = Host::serve(&[TCP, "--no-control"]);
    assert!(!host.control_socket().exists());
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let ended = run(plugsock().args(["serve", TCP, "--no-cache", "--control"]).arg(&file));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

/// A host that cannot have its own directory serves without a control socket.
#[test]
fn a_directory_that_others_could_use_is_not_used() {
    let elsewhere = TempDir::new().unwrap();
    for prepare in [
        |directory: &std::path::Path, elsewhere: &std::path::Path| symlink(elsewhere, directory).unwrap(),
        |directory: &std::path::Path, _: &std::path::Path| {
            fs::create_dir(directory).unwrap();
            fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
        },
        |directory: &std::path::Path, _: &std::path::Path| fs::write(directory, "a file").unwrap(),
    ] {
        let runtime = TempDir::new().unwrap();
        let directory = runtime.path().join("plugsock");
        prepare(&directory, elsewhere.path());
        let host = serve_in(&runtime, &[TCP]);
        host.log.wait_for("no control socket");
        assert_eq!(host.ask(b"hello"), b"hello");
        is_error(&ctl_in(&runtime, &["status"]), 3, &["no server to control"]);
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

/// C9: the kernel says who asks, whatever the socket's mode has become.
#[test]
fn other_users_have_no_say() {
    if !is_installed("setpriv") || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: to be another user takes setpriv and root");
        return;
    }
    let host = Host::serve(&[TCP]);
    let socket = host.control_socket();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(plugsock().get_program()).arg("ctl").arg("--control").arg(&socket).args(args);
        run(&mut command)
    };
    is_error(&as_nobody(&["status"]), 3, &["for its user and root alone"]);
    for path in socket.ancestors().take(3) {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    for command in ["status", "rollback", "shutdown"] {
        is_error(&as_nobody(&[command]), 1, &["user 65534 has no say here"]);
    }
    host.log.wait_for_count("was turned away", 3);
    assert_eq!(host.ask(b"hello"), b"hello");
}
