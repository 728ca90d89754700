//! The file of a Unix socket, and who is at its other end.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Ended, Host, cache_dir, for_each_strategy, guest, plugsock, run};

/// A directory and a path in it that nothing has yet.
fn path() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    (directory, path)
}

fn address(scheme: &str, path: &Path) -> String {
    format!("{scheme}://{}", path.display())
}

fn serve(address: &str) -> Ended {
    run(plugsock().args(["serve", address, "--cache-dir"]).arg(cache_dir()))
}

fn is_refused(address: &str, word: &str) {
    let ended = serve(address);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(word) && ended.stderr.lines().count() == 1, "{ended:?}");
}

/// O10: nothing else is left in the directory either.
#[test]
fn the_file_goes_with_the_server() {
    for scheme in ["unix", "unixgram"] {
        let (directory, path) = path();
        let mut host = Host::serve(&[address(scheme, &path)]);
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        assert!(host.terminate().success());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "{scheme}");
    }
}

/// O10
#[test]
fn a_file_that_nothing_listens_on_is_replaced() {
    let (_directory, at) = path();
    drop(UnixListener::bind(&at).unwrap());
    assert_eq!(Host::serve(&[address("unix", &at)]).ask(b"hello"), b"hello");
    let (_directory, at) = path();
    drop(UnixDatagram::bind(&at).unwrap());
    assert_eq!(Host::serve(&[address("unixgram", &at)]).ask(b"hello"), b"hello");
    // What a killed host leaves, lock and all.
    for strategy in ["threading", "forking"] {
        let (_directory, at) = path();
        let mut killed = Host::serve(&[&address("unix", &at), "--concurrency", strategy]);
        killed.signal(Signal::KILL);
        killed.wait();
        assert!(at.exists());
        assert_eq!(Host::serve(&[address("unix", &at)]).ask(b"hello"), b"hello");
    }
}

/// O10
#[test]
fn a_living_socket_is_refused_and_lives_on() {
    for scheme in ["unix", "unixgram"] {
        let (_directory, path) = path();
        let first = Host::serve(&[address(scheme, &path)]);
        for other in ["unix", "unixgram"] {
            is_refused(&address(other, &path), "another server uses this address");
        }
        assert_eq!(first.ask(b"hello"), b"hello");
    }
    let name = format!("unix://@plugsock-test-{}-living", std::process::id());
    let first = Host::serve(&[&name]);
    is_refused(&name, "another server uses this address");
    assert_eq!(first.ask(b"hello"), b"hello");
}

/// O10: of a program that takes no lock; also while its queue is full.
#[test]
fn a_living_socket_of_another_program_is_refused() {
    let (_directory, at) = path();
    let _listener = UnixListener::bind(&at).unwrap();
    for scheme in ["unix", "unixgram"] {
        is_refused(&address(scheme, &at), "another server uses this address");
    }
    let (_directory, at) = path();
    let datagram = UnixDatagram::bind(&at).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &at).is_ok() {}
    for scheme in ["unix", "unixgram"] {
        is_refused(&address(scheme, &at), "another server uses this address");
    }
    assert_eq!(datagram.recv(&mut [0; 4]).unwrap(), 4);
}

/// O10
#[test]
fn what_is_not_a_socket_is_untouched() {
    let (directory, at) = path();
    fs::write(&at, "precious").unwrap();
    is_refused(&address("unix", &at), "not a socket");
    assert_eq!(fs::read_to_string(&at).unwrap(), "precious");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&at, &link).unwrap();
    is_refused(&address("unixgram", &link), "not a socket");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let below = directory.path().join("directory");
    fs::create_dir(&below).unwrap();
    is_refused(&address("unix", &below), "not a socket");
    assert!(below.is_dir());
}

#[test]
fn the_file_gets_the_mode_and_owner_that_are_asked_for() {
    for scheme in ["unix", "unixgram"] {
        for mode in ["600", "660", "666"] {
            let (_directory, path) = path();
            let _host = Host::serve(&[&address(scheme, &path), "--mode", mode]);
            assert_eq!(format!("{:o}", fs::metadata(&path).unwrap().mode() & 0o7777), mode);
        }
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped in part: only root can give files away");
        return;
    }
    let (_directory, path) = path();
    let _host = Host::serve(&[&address("unix", &path), "--owner", "12345", "--group", "54321"]);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12_345, 54_321));
}

/// C9
#[test]
fn a_handler_learns_from_the_kernel_who_its_client_is() {
    let me = format!(
        "pid={}\nuid={}\ngid={}\n",
        std::process::id(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    for scheme in ["unix", "unixgram"] {
        for_each_strategy(|strategy| {
            let (_directory, path) = path();
            let address = address(scheme, &path);
            let host = Host::serve(&[&address, &guest("server_info"), "--concurrency", strategy]);
            let answer = String::from_utf8(host.ask(b"")).unwrap();
            assert!(answer.ends_with(&me), "{answer}");
            assert!(answer.contains(&format!("\nconcurrency={strategy}\n")), "{answer}");
            assert!(answer.contains(&format!("\nname={address}\n")), "{answer}");
        });
    }
}

/// G15
#[test]
fn a_client_cannot_break_the_log_with_its_name() {
    let (directory, at) = path();
    let host = Host::serve(&[&address("unixgram", &at), &guest("error_in_handle")]);
    let client = UnixDatagram::bind(directory.path().join("a\nb\x1b[31m")).unwrap();
    client.send_to(b"", &at).unwrap();
    let line = host.log.wait_for("handler error");
    assert!(line.contains(r"/a\nb\x1b[31m phase="), "{line}");
    assert_eq!(host.log.text().lines().count(), 1);
}
