//! Sockets that were bound before the host started, as systemd passes them.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::io::{dup2, fcntl_dupfd_cloexec};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown};
use socket2::{Domain, Socket};

use crate::harness::{
    Client, Ended, Host, STRATEGIES, cache_dir, children, pattern, plugsock, run, wait_until,
};
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

/// Has the kernel tell of each packet, or of each client, all that it can.
fn ask_for_everything(socket: &Socket) {
    use nix::libc;
    /// Younger than what `libc` knows.
    const SO_PASSPIDFD: libc::c_int = 76;
    let general =
        [libc::SO_TIMESTAMPNS, libc::SO_RXQ_OVFL, libc::SO_PASSCRED, libc::SO_PASSSEC, SO_PASSPIDFD]
            .map(|option| (libc::SOL_SOCKET, option));
    let v4 = [
        libc::IP_PKTINFO,
        libc::IP_RECVTTL,
        libc::IP_RECVTOS,
        libc::IP_RECVOPTS,
        libc::IP_RETOPTS,
        libc::IP_RECVORIGDSTADDR,
        libc::IP_RECVERR,
    ]
    .map(|option| (libc::IPPROTO_IP, option));
    let v6 = [
        libc::IPV6_RECVPKTINFO,
        libc::IPV6_RECVTCLASS,
        libc::IPV6_RECVHOPLIMIT,
        libc::IPV6_RECVORIGDSTADDR,
        libc::IPV6_RECVERR,
    ]
    .map(|option| (libc::IPPROTO_IPV6, option));
    let of_family = match socket.domain().unwrap() {
        Domain::IPV4 => &v4[..],
        Domain::IPV6 => &v6[..],
        _ => &[],
    };
    let mut count = 0;
    for (level, option) in general.iter().chain(of_family) {
        let on: libc::c_int = 1;
        let length = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the value is read, and has that length.
        let set =
            unsafe { libc::setsockopt(socket.as_raw_fd(), *level, *option, (&raw const on).cast(), length) };
        count += usize::from(set == 0);
    }
    // A kernel may lack one, and some are for Unix sockets alone.
    assert!(count + 3 >= general.len() + of_family.len(), "only {count} options are set");
}

/// What it tells beside the packet is skipped, and what it opens is closed.
#[test]
fn sockets_with_options_that_nobody_asked_for_are_served() {
    for strategy in STRATEGIES {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let unix = UnixListener::bind(at("stream")).unwrap();
        let datagram = UnixDatagram::bind(at("datagram")).unwrap();
        let udp = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"]
            .map(|address| UdpSocket::bind(address).unwrap());
        let mut sockets = vec![Socket::from(unix), Socket::from(datagram)];
        sockets.extend(udp.map(Socket::from));
        sockets.iter().for_each(ask_for_everything);
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let host = Host::serve_sockets(with_sockets(&borrowed, "$$"), 6, &["--concurrency", strategy]);
        for address in &host.addresses {
            for length in [0, 1, 5000] {
                let data = pattern(length);
                assert_eq!(Client::ask(address, &data), data, "{address}");
            }
        }
        for address in &host.addresses[..2] {
            let client = Client::connect(address);
            pass_descriptors(&client);
            let before = host.descriptors();
            (0..1000).for_each(|_| pass_descriptors(&client));
            wait_until(|| host.descriptors() <= before);
        }
        assert_eq!(host.log.lines_with("cannot accept"), Vec::<String>::new());
        // They would wait where nobody looks, and nothing else would ever be waited for.
        let errors = sockets[2..].iter().map(|socket| match socket.domain().unwrap() {
            Domain::IPV4 => getsockopt(socket, sockopt::Ipv4RecvErr).unwrap(),
            _ => getsockopt(socket, sockopt::Ipv6RecvErr).unwrap(),
        });
        assert!(errors.into_iter().all(|is_on| !is_on));
    }
}

/// Sends descriptors along with a word, and has the word echoed.
fn pass_descriptors(client: &Client) {
    let passed = [client.socket.as_fd(); 3];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
    let sent = sendmsg(&client.socket, &[IoSlice::new(b"hello")], &mut control, SendFlags::empty());
    assert_eq!(sent, Ok(5));
    assert_eq!(client.recv_exact(5), b"hello");
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

/// One that nothing can be accepted from any more, since somebody else who has it has ended it, is said at once.
#[test]
fn a_socket_that_becomes_unusable_is_said_and_the_others_are_served_on() {
    for order in [[0, 1], [1, 0]] {
        let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let fds = order.map(|number: usize| sockets[number].as_fd());
        let mut host = Host::serve_sockets(with_sockets(&fds, "$$"), 2, &[]);
        let [ended, serving] = [0, 1].map(|number| {
            let address = format!("tcp://{}", sockets[number].local_addr().unwrap());
            host.addresses.iter().find(|other| other.to_string() == address).unwrap().clone()
        });
        shutdown(&sockets[0], Shutdown::Read).unwrap();
        let said =
            format!("ERROR plugsock::cli::running: {ended} is served no more: cannot wait for requests: ");
        host.log.wait_for(&said);
        assert_eq!(Client::ask(&serving, b"hello"), b"hello");
        assert_eq!(host.terminate().code(), Some(1));
        host.log.wait_for(&format!("plugsock: error: {ended} is served no more"));
    }
}
