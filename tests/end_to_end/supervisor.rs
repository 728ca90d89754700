//! What a supervisor is told by a host that it has started: a test plays systemd, which believes the main process
//! alone.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Host, PATIENCE, for_each_strategy, plugsock};
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

    fn command(&self) -> Command {
        let mut command = plugsock();
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command
    }

    fn start(&self) -> Host {
        let host = Host::serve_by(self.command(), &[TCP]);
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
    let mut host = Host::serve_by(supervisor.command(), &[TCP, "--dir", &granted]);
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

const ALIVE: &str = "WATCHDOG=1\n";

impl Supervisor {
    /// A host that is to say every tenth of a second that it is alive.
    fn start_watched(&self, args: &[&str]) -> Host {
        let mut command = self.command();
        command.env("WATCHDOG_USEC", "200000");
        let host = Host::serve_by(command, &[&[TCP, "udp://127.0.0.1:0"], args].concat());
        self.hears(host.pid(), "READY=1\n");
        host
    }
}

#[test]
fn a_watchdog_hears_of_a_host_at_rest_and_at_work_on_every_strategy() {
    for_each_strategy(|strategy| {
        let supervisor = Supervisor::new();
        let mut host = supervisor.start_watched(&["--concurrency", strategy]);
        let since = Instant::now();
        (0..3).for_each(|_| supervisor.hears(host.pid(), ALIVE));
        assert!(since.elapsed() >= Duration::from_millis(200), "{:?}", since.elapsed());
        // With `sync` the loop itself serves this one.
        let open = host.greeted();
        (0..3).for_each(|_| supervisor.hears(host.pid(), ALIVE));
        assert_eq!(open.exchange(b"x"), b"x");
        assert_eq!(host.ctl(&["drain"]).code, Some(0));
        (0..3).for_each(|_| supervisor.hears(host.pid(), ALIVE));
        assert!(host.terminate().success());
        let rest = std::iter::from_fn(|| Some(supervisor.told().1).filter(|said| said != "STOPPING=1\n"));
        rest.for_each(|said| assert_eq!(said, ALIVE));
    });
}

/// One of its threads is stopped, as by a bug in it, while all others run.
#[test]
fn a_watchdog_hears_nothing_while_one_accept_loop_hangs() {
    let supervisor = Supervisor::new();
    let host = supervisor.start_watched(&[]);
    supervisor.hears(host.pid(), ALIVE);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap();
    let accepting = tasks.flatten().find(|task| name(task.path()) == "accept\n").unwrap();
    let thread: i32 = accepting.file_name().to_str().unwrap().parse().unwrap();
    let ptrace = |request, data: i64| {
        // SAFETY: the thread is a child's, and none of these requests touches this process's memory.
        let done = unsafe { libc::ptrace(request, thread, 0_i64, data) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    };
    ptrace(libc::PTRACE_SEIZE, 0);
    ptrace(libc::PTRACE_INTERRUPT, 0);
    // SAFETY: no status is asked for.
    assert_eq!(unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) }, thread);
    let line = host.log.wait_for("nothing is accepted");
    assert!(line.contains("tcp://") != line.contains("udp://"), "one of the two: {line}");
    // What was on its way before is heard, and nothing after.
    supervisor.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let heard = std::iter::from_fn(|| supervisor.socket.recv(&mut [0; 4096]).ok()).count();
    assert!(heard <= 2, "{heard}");
    supervisor.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    ptrace(libc::PTRACE_DETACH, 0);
    supervisor.hears(host.pid(), ALIVE);
    assert_eq!(host.log.lines_with("nothing is accepted").len(), 1);
}

/// The variables name the process that has gone.
#[test]
fn a_watchdog_hears_of_whoever_took_over() {
    let supervisor = Supervisor::new();
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ WATCHDOG_USEC=200000 exec \"$0\" \"$@\""]);
    command.arg(plugsock().get_program()).env("NOTIFY_SOCKET", supervisor.directory.path().join("notify"));
    let host = Host::serve_by(command, &[TCP]);
    let next = || std::iter::repeat_with(|| supervisor.told()).find(|(_, said)| said != ALIVE).unwrap();
    assert_eq!(next(), (Some(host.pid()), "READY=1\n".to_owned()));
    supervisor.hears(host.pid(), ALIVE);
    let successor = upgrade(&host);
    assert_eq!(next(), (Some(host.pid()), format!("MAINPID={}\nREADY=1\n", successor.as_raw_pid())));
    host.wait_for_exit();
    let sender = std::iter::repeat_with(|| supervisor.told().0).find(|sender| *sender == Some(successor));
    assert_eq!(sender, Some(Some(successor)));
    supervisor.hears(successor, ALIVE);
    end(host, successor);
}

/// Of another's process nothing is said.
#[test]
fn a_watchdog_of_another_process_hears_nothing() {
    let supervisor = Supervisor::new();
    let mut command = supervisor.command();
    command.env("WATCHDOG_USEC", "20000").env("WATCHDOG_PID", "1");
    let mut host = Host::serve_by(command, &[TCP]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(host.terminate().success());
    supervisor.hears(host.pid(), "READY=1\n");
    supervisor.hears(host.pid(), "STOPPING=1\n");
    supervisor.hears_nothing_more();
}
