//! Sockets that were bound before the host started, as systemd passes them.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{dup2, fcntl_dupfd_cloexec};

use crate::harness::{Client, Ended, Host, STRATEGIES, cache_dir, children, plugsock, run};
use crate::upgrade::{end, upgrade};

const TCP: &str = "tcp://127.0.0.1:0";

/// A `plugsock` that finds these sockets as descriptors 3, 4, …, meant for process `pid`, a shell's expression.
fn with_sockets(sockets: &[BorrowedFd<'_>], pid: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("export LISTEN_PID={pid}; exec \"$0\" \"$@\"")])
        .arg(plugsock().get_program())
        .env("LISTEN_FDS", sockets.len().to_string());
    // Out of the way of where they are to be.
    let copies: Vec<OwnedFd> =
        sockets.iter().map(|socket| fcntl_dupfd_cloexec(socket, 20).unwrap()).collect();
    let place = move || {
        for (copy, target) in copies.iter().zip(3..) {
            // SAFETY: what the child had there, if anything, would be closed by its exec.
            let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target) });
            dup2(copy, &mut target)?;
        }
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { shell.pre_exec(place) };
    shell
}

/// O14: each is served as what it is, and nobody else takes it for his.
#[test]
fn sockets_of_every_type_are_served() {
    for strategy in STRATEGIES {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(at("stream")).unwrap();
        let datagram = UnixDatagram::bind(at("datagram")).unwrap();
        let sockets = [tcp.as_fd(), udp.as_fd(), unix.as_fd(), datagram.as_fd()];
        // The ready lines come in order: those of the sockets first.
        let addresses = [
            format!("tcp://{}", tcp.local_addr().unwrap()),
            format!("udp://{}", udp.local_addr().unwrap()),
            format!("unix://{}", at("stream").display()),
            format!("unixgram://{}", at("datagram").display()),
        ];
        let mut host = Host::serve_sockets(with_sockets(&sockets, "$$"), 4, &["--concurrency", strategy]);
        for (address, expected) in host.addresses.iter().zip(addresses) {
            assert_eq!(address.to_string(), expected);
            assert_eq!(Client::ask(address, b"hello"), b"hello", "{address}");
        }
        for process in children(host.pid()) {
            let variables = std::fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())).unwrap();
            let variables = String::from_utf8_lossy(&variables).into_owned();
            assert!(!variables.contains("LISTEN_"), "{variables}");
        }
        assert!(host.terminate().success());
        // Their files are whose who bound them.
        assert!(at("stream").exists() && at("datagram").exists());
    }
}

/// Where they came from makes no difference to a process that takes over.
#[test]
fn sockets_that_were_inherited_are_handed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let host = Host::serve_sockets(with_sockets(&[tcp.as_fd(), unix.as_fd()], "$$"), 2, &[]);
    drop((tcp, unix));
    let successor = upgrade(&host);
    host.wait_for_exit();
    for address in &host.addresses {
        assert_eq!(Client::ask(address, b"hello"), b"hello", "{address}");
    }
    end(host, successor);
    assert!(path.exists());
}

fn serve(mut command: Command) -> Ended {
    run(command.args(["serve", "--cache-dir"]).arg(cache_dir()))
}

/// O14: none of them is served.
#[test]
fn what_cannot_be_served_is_refused() {
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(good.local_addr().unwrap()).unwrap();
    let (pipe, _other_end) = std::io::pipe().unwrap();
    for wrong in [connection.as_fd(), pipe.as_fd()] {
        let ended = serve(with_sockets(&[good.as_fd(), wrong], "$$"));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("descriptor 4") && ended.stderr.lines().count() == 1, "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    for (count, word) in [("1000", "not open"), ("x", "LISTEN_FDS")] {
        let mut command = with_sockets(&[good.as_fd()], "$$");
        command.env("LISTEN_FDS", count);
        let ended = serve(command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(word) && ended.stderr.lines().count() == 1, "{ended:?}");
    }
}

/// O14
#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::serve_by(with_sockets(&[theirs.as_fd()], "1"), &[TCP]);
    host.log.wait_for("are for process 1");
    assert_ne!(host.address().to_string(), format!("tcp://{}", theirs.local_addr().unwrap()));
    assert_eq!(host.ask(b"hello"), b"hello");
}
