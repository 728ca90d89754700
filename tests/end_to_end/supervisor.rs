//! What a supervisor is told by a host that it has started: a test plays systemd, which believes the main process
//! alone.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Host, PATIENCE, plugsock};
use crate::upgrade::{end, upgrade};

const TCP: &str = "tcp://127.0.0.1:0";

struct Supervisor {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        Self { socket, directory }
    }

    fn start(&self) -> Host {
        let mut command = plugsock();
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        let host = Host::serve_by(command, &[TCP]);
        self.hears(host.pid(), "READY=1\n");
        host
    }

    /// The next thing that it is told, and by whom.
    fn told(&self) -> (Option<Pid>, String) {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut text)];
        let received = recvmsg(&self.socket, &mut slices, &mut beside, RecvFlags::empty());
        let length = received.expect("nothing is told").bytes;
        let sender = beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
            _ => None,
        });
        (sender, String::from_utf8_lossy(&text[..length]).into_owned())
    }

    fn hears(&self, process: Pid, what: &str) {
        assert_eq!(self.told(), (Some(process), what.to_owned()));
    }

    fn hears_of_a_reload(&self, process: Pid) {
        let (sender, said) = self.told();
        let since =
            said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.strip_suffix('\n'));
        assert!(sender == Some(process) && since.is_some_and(|since| since.parse::<u64>().is_ok()), "{said}");
        self.hears(process, "READY=1\n");
    }

    fn hears_nothing_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0; 4096]).is_err());
    }
}

#[test]
fn a_reload_and_the_end_are_told() {
    let supervisor = Supervisor::new();
    let mut host = supervisor.start();
    for _ in 0..2 {
        host.signal(Signal::HUP);
        supervisor.hears_of_a_reload(host.pid());
    }
    assert!(host.terminate().success());
    supervisor.hears(host.pid(), "STOPPING=1\n");
    supervisor.hears_nothing_more();
}

/// The old process's end is then not the service's, and what it was told stays true.
#[test]
fn the_main_process_is_the_one_that_took_over() {
    let supervisor = Supervisor::new();
    let host = supervisor.start();
    let first = upgrade(&host);
    supervisor.hears(host.pid(), &format!("MAINPID={}\nREADY=1\n", first.as_raw_pid()));
    host.wait_for_exit();
    kill_process(first, Signal::HUP).unwrap();
    supervisor.hears_of_a_reload(first);
    kill_process(first, Signal::USR2).unwrap();
    let (sender, said) = supervisor.told();
    let second = said.strip_prefix("MAINPID=").and_then(|rest| rest.strip_suffix("\nREADY=1\n"));
    let second = Pid::from_raw(second.unwrap().parse().unwrap()).unwrap();
    assert_eq!(sender, Some(first));
    end(host, second);
    supervisor.hears(second, "STOPPING=1\n");
    supervisor.hears_nothing_more();
}

/// The service is what it was.
#[test]
fn an_upgrade_that_fails_is_not_told() {
    let supervisor = Supervisor::new();
    let directory = tempfile::tempdir().unwrap();
    let granted = format!("{}::/d", directory.path().display());
    let mut command = plugsock();
    command.env("NOTIFY_SOCKET", supervisor.directory.path().join("notify"));
    let mut host = Host::serve_by(command, &[TCP, "--dir", &granted]);
    supervisor.hears(host.pid(), "READY=1\n");
    directory.close().unwrap();
    host.signal(Signal::USR2);
    host.log.wait_for("this process serves on");
    assert!(host.terminate().success());
    supervisor.hears(host.pid(), "STOPPING=1\n");
    supervisor.hears_nothing_more();
}

#[test]
fn a_supervisor_that_has_gone_is_done_without() {
    let supervisor = Supervisor::new();
    let mut host = supervisor.start();
    drop(supervisor);
    host.signal(Signal::HUP);
    host.log.wait_for_count("cannot tell the supervisor", 2);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(host.terminate().success());
}
