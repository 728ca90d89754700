//! What a confined process tries and may not do, what it needs and may, each by the system call itself.
//!
//! A process is confined once and for all, so the tests start their own executable anew, and that tries. The same attempts
//! are made by a process that is not confined: there each must come through, or fail for another reason.

#![allow(unsafe_code, reason = "it makes system calls that nothing in this crate may make")]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::Command;
use std::ptr::null;

use nix::libc::{self, c_long};
use rustix::process::{PidfdFlags, getppid, pidfd_open};

use super::{confine, confine_compiler};
use crate::sandbox::{Grants, Limits};

/// Names the part that a process of this test plays.
const PART: &str = "PLUGSOCK_TEST_CONFINED_AS";

/// An abstract Unix socket of the process that is not confined.
const SOCKET: &str = "PLUGSOCK_TEST_ABSTRACT_SOCKET";

/// A process id that none has.
const NOBODY: c_long = 0x3fff_ffff;

/// What the test's own user, or this machine's kernel, may be refused anyway.
const MAY_BE_REFUSED_ANYWAY: [&str; 8] = [
    "bpf",
    "fanotify_init",
    "io_uring_setup",
    "mount",
    "open_by_handle_at",
    "perf_event_open",
    "raise own priority",
    "userfaultfd",
];

/// Attempts that Landlock alone refuses, with the first of its versions that does.
const BY_LANDLOCK: [(&str, c_long); 2] = [("open a file", 1), ("send to an abstract socket", 6)];

#[test]
fn a_confined_process_can_do_little() {
    if let Ok(part) = std::env::var(PART) {
        play(&part);
    }
    let free = outcomes("free");
    for (name, errno) in &free {
        let is_refused = [libc::EPERM, libc::EACCES, libc::ENOSYS].contains(errno);
        assert!(
            !is_refused || MAY_BE_REFUSED_ANYWAY.contains(&name.as_str()),
            "{name}: {errno} without a wall"
        );
    }
    // SAFETY: without a ruleset the call asks for the version.
    let landlock = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u8>(), 0, 1) };
    for part in ["child", "compiler"] {
        let confined = outcomes(part);
        assert_eq!(confined.len(), free.len());
        for (name, errno) in confined {
            match BY_LANDLOCK.iter().find(|(other, _)| *other == name) {
                Some((_, version)) if landlock < *version => {
                    eprintln!("skipped: {name}: this kernel cannot refuse it")
                }
                Some(_) => assert!([libc::EPERM, libc::EACCES].contains(&errno), "{part}: {name}: {errno}"),
                None => assert!([libc::EPERM, libc::ENOSYS].contains(&errno), "{part}: {name}: {errno}"),
            }
        }
    }
}

/// A fork server ends its children, and nobody else.
#[test]
fn a_fork_server_signals_its_own_processes_alone() {
    // SAFETY: as above.
    if unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u8>(), 0, 1) } < 6 {
        eprintln!("skipped: this kernel's Landlock knows no signals");
        return;
    }
    let outcomes = outcomes("fork server");
    assert_eq!(outcomes["signal the process that started it"], libc::EPERM);
    assert_eq!(outcomes["signal itself"], 0);
}

/// With a part of the network granted there are sockets for that, and no others.
#[test]
fn what_may_use_the_network_has_tcp_and_udp_alone() {
    let outcomes = outcomes("child with network");
    assert_eq!((outcomes["TCP"], outcomes["UDP"]), (0, 0));
    assert_eq!((outcomes["raw"], outcomes["Unix"]), (libc::ENOSYS, libc::ENOSYS));
}

/// Runs the first test in a process of its own, in a part; what each of its attempts came to.
fn outcomes(part: &str) -> BTreeMap<String, i32> {
    let name = format!("plugsock-test-{}-{part}", std::process::id());
    let _socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_process::confine::tests::a_confined_process_can_do_little", "--nocapture"])
        .env(PART, part)
        .env(SOCKET, &name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{part}: {}\n{said}", ended.status);
    let tried = said.lines().filter_map(|line| line.strip_prefix("tried ")?.rsplit_once(": "));
    tried.map(|(name, errno)| (name.to_owned(), errno.parse().unwrap())).collect()
}

/// What was open before, as it is in a fork server.
struct Held {
    parent: c_long,
    parent_pidfd: OwnedFd,
    pair: (UnixStream, UnixStream),
    datagrams: UnixDatagram,
    directory: File,
    file: File,
    memory: OwnedFd,
}

fn play(part: &str) -> ! {
    let parent = getppid().unwrap();
    let held = Held {
        parent: parent.as_raw_pid().into(),
        parent_pidfd: pidfd_open(parent, PidfdFlags::empty()).unwrap(),
        pair: UnixStream::pair().unwrap(),
        datagrams: UnixDatagram::unbound().unwrap(),
        directory: File::open("/").unwrap(),
        file: tempfile::tempfile().unwrap(),
        memory: rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap(),
    };
    let held = &held;
    match part {
        "free" => try_all(held),
        "child" => {
            let child = confine(&Grants::default(), &Limits::default(), None, false);
            assert!(child.filter.is_some(), "there is no seccomp");
            // What it may no longer do afterwards, to be told of an event by a signal.
            assert_eq!(fcntl(&held.pair.0, libc::F_SETOWN, std::process::id().into()), 0);
            assert_eq!(fcntl(&held.pair.0, libc::F_SETFL, libc::O_ASYNC.into()), 0);
            assert_eq!(fcntl(&held.pair.0, libc::F_SETFL, 0), 0);
            child.apply();
            try_all(held);
            serve(held);
        }
        "compiler" => {
            confine_compiler(1 << 30);
            try_all(held);
            serve(held);
        }
        "fork server" => {
            confine(&Grants::default(), &Limits::default(), None, false);
            tried("signal the process that started it", call(libc::SYS_kill, [held.parent, 0, 0, 0, 0, 0]));
            tried("signal itself", call(libc::SYS_kill, [std::process::id().into(), 0, 0, 0, 0, 0]));
        }
        "child with network" => {
            let grants = Grants { net: vec!["127.0.0.1:80".parse().unwrap()], ..Grants::default() };
            confine(&grants, &Limits::default(), None, false).apply();
            let socket = |name, family: i32, kind: i32| {
                tried(name, call(libc::SYS_socket, [family.into(), kind.into(), 0, 0, 0, 0]));
            };
            socket("TCP", libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
            socket("UDP", libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
            socket("raw", libc::AF_INET, libc::SOCK_RAW);
            socket("Unix", libc::AF_UNIX, libc::SOCK_DGRAM);
        }
        other => panic!("there is no part {other}"),
    }
    std::process::exit(0);
}

fn call(number: c_long, with: [c_long; 6]) -> i32 {
    let [a, b, c, d, e, f] = with;
    // SAFETY: each call below has arguments that are valid for it, or that the kernel refuses.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap(),
        _ => 0,
    }
}

fn fcntl(of: &impl AsRawFd, operation: i32, argument: c_long) -> i32 {
    call(libc::SYS_fcntl, [of.as_raw_fd().into(), operation.into(), argument, 0, 0, 0])
}

fn tried(name: &str, errno: i32) {
    eprintln!("tried {name}: {errno}");
}

fn pointer(text: &CStr) -> c_long {
    text.as_ptr() as c_long
}

fn try_all(held: &Held) {
    let own = c_long::from(std::process::id());
    let thread = rustix::thread::gettid().as_raw_pid().into();
    let socket = c_long::from(held.pair.0.as_raw_fd());
    let limit = libc::rlimit { rlim_cur: 50, rlim_max: 50 };
    let mut old = limit;
    let (limit, old) = (&raw const limit as c_long, &raw mut old as c_long);
    let owner = [0_i32, own as i32];
    let mut number = 1_i32;
    let number_at = &raw mut number as c_long;
    let mut sockets = [0_i32; 2];
    let sockets_at = sockets.as_mut_ptr() as c_long;
    let mut pid = own as i32;
    let pid_at = &raw mut pid as c_long;
    let (stream, datagram, packets) = (
        c_long::from(libc::SOCK_STREAM),
        c_long::from(libc::SOCK_DGRAM),
        c_long::from(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC),
    );
    let ioctl =
        |request: c_long, argument: c_long| call(libc::SYS_ioctl, [socket, request, argument, 0, 0, 0]);
    let calls: &[(&str, c_long, &[c_long])] = &[
        ("signal another process", libc::SYS_kill, &[held.parent, 0]),
        ("signal itself", libc::SYS_kill, &[own, 0]),
        ("signal another thread", libc::SYS_tgkill, &[held.parent, held.parent, 0]),
        ("signal its own thread", libc::SYS_tgkill, &[own, thread, 0]),
        ("tkill", libc::SYS_tkill, &[thread, 0]),
        ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &[NOBODY, 0, 0]),
        ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, &[NOBODY, NOBODY, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, &[held.parent, 0]),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, &[held.parent_pidfd.as_raw_fd().into(), 0, 0, 0]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, &[-1, 0, 0]),
        ("ptrace", libc::SYS_ptrace, &[libc::PTRACE_ATTACH.into(), NOBODY, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, &[own, 0, 0, 0, 0, 0]),
        ("process_vm_writev", libc::SYS_process_vm_writev, &[own, 0, 0, 0, 0, 0]),
        ("execve", libc::SYS_execve, &[0, 0, 0]),
        (
            "execute a file in memory",
            libc::SYS_execveat,
            &[held.memory.as_raw_fd().into(), pointer(c""), 0, 0, libc::AT_EMPTY_PATH.into()],
        ),
        // Flags that contradict each other, so that none is made where it is allowed.
        ("clone", libc::SYS_clone, &[(libc::CLONE_NEWNS | libc::CLONE_FS).into(), 0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, &[0, 0]),
        ("unshare", libc::SYS_unshare, &[1]),
        ("setns", libc::SYS_setns, &[-1, 0]),
        ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, &[0]),
        ("socket: Unix", libc::SYS_socket, &[libc::AF_UNIX.into(), stream, 0]),
        ("socket: Unix datagram", libc::SYS_socket, &[libc::AF_UNIX.into(), datagram, 0]),
        ("socket: internet", libc::SYS_socket, &[libc::AF_INET.into(), stream, 0]),
        ("socket: netlink", libc::SYS_socket, &[libc::AF_NETLINK.into(), datagram, 0]),
        ("socketpair: datagram", libc::SYS_socketpair, &[libc::AF_UNIX.into(), datagram, 0, sockets_at]),
        ("socketpair: packets", libc::SYS_socketpair, &[libc::AF_UNIX.into(), packets, 0, sockets_at]),
        ("connect", libc::SYS_connect, &[-1, 0, 0]),
        ("bind", libc::SYS_bind, &[-1, 0, 0]),
        ("listen", libc::SYS_listen, &[-1, 0]),
        ("accept4", libc::SYS_accept4, &[-1, 0, 0, 0]),
        ("fcntl: F_SETOWN", libc::SYS_fcntl, &[socket, libc::F_SETOWN.into(), own]),
        ("fcntl: F_SETOWN_EX", libc::SYS_fcntl, &[socket, 15, owner.as_ptr() as c_long]),
        ("fcntl: F_SETSIG", libc::SYS_fcntl, &[socket, 10, 0]),
        ("fcntl: F_SETLEASE", libc::SYS_fcntl, &[held.file.as_raw_fd().into(), libc::F_SETLEASE.into(), 2]),
        ("fcntl: F_NOTIFY", libc::SYS_fcntl, &[held.directory.as_raw_fd().into(), libc::F_NOTIFY.into(), 0]),
        ("prlimit of another", libc::SYS_prlimit64, &[held.parent, libc::RLIMIT_CORE.into(), 0, old]),
        ("set its own limit", libc::SYS_prlimit64, &[0, libc::RLIMIT_NOFILE.into(), limit, 0]),
        ("setrlimit", libc::SYS_setrlimit, &[libc::RLIMIT_NOFILE.into(), limit]),
        ("priority of another", libc::SYS_setpriority, &[0, NOBODY, 19]),
        ("priority of a group", libc::SYS_setpriority, &[1, NOBODY, 19]),
        ("priority of a user", libc::SYS_setpriority, &[2, NOBODY, 19]),
        ("raise own priority", libc::SYS_setpriority, &[0, 0, -1]),
        ("prctl: PR_SET_DUMPABLE", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0]),
        ("prctl: PR_SET_PDEATHSIG", libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG.into(), 0, 0, 0, 0]),
        ("bpf", libc::SYS_bpf, &[0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, &[0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, &[1]),
        ("perf_event_open", libc::SYS_perf_event_open, &[0, 0, -1, -1, 0]),
        ("keyctl", libc::SYS_keyctl, &[0xffff, 0, 0, 0, 0]),
        ("inotify_init1", libc::SYS_inotify_init1, &[libc::IN_CLOEXEC.into()]),
        ("fanotify_init", libc::SYS_fanotify_init, &[0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, &[-1, 0, 0]),
        ("timer_create", libc::SYS_timer_create, &[0, 0, 0]),
        ("setresuid", libc::SYS_setresuid, &[-1, -1, -1]),
        ("capset", libc::SYS_capset, &[0, 0]),
        ("setpgid", libc::SYS_setpgid, &[-1, -1]),
        (
            "open a file",
            libc::SYS_openat,
            &[libc::AT_FDCWD.into(), pointer(c"/etc/passwd"), libc::O_CLOEXEC.into()],
        ),
    ];
    for (name, number, arguments) in calls {
        let mut with = [0; 6];
        with[..arguments.len()].copy_from_slice(arguments);
        tried(name, call(*number, with));
    }
    // By whichever way the C library goes.
    // SAFETY: the child ends at once.
    let forked = match unsafe { libc::fork() } {
        // SAFETY: it may be called at any time.
        0 => unsafe { libc::_exit(0) },
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap(),
        child => call(libc::SYS_wait4, [child.into(), 0, 0, 0, 0, 0]),
    };
    tried("fork", forked);
    tried("ioctl: FIOSETOWN", ioctl(0x8901, pid_at));
    tried("ioctl: SIOCSPGRP", ioctl(0x8902, pid_at));
    tried("ioctl: FIOASYNC", ioctl(0x5452, number_at));
    tried("ioctl: TIOCSTI", ioctl(0x5412, number_at));
    let name = std::env::var(SOCKET).unwrap();
    let sent = held.datagrams.send_to_addr(b"a", &SocketAddr::from_abstract_name(name).unwrap());
    tried("send to an abstract socket", sent.map_or_else(|error| error.raw_os_error().unwrap(), |_| 0));
}

/// What serving takes.
fn serve(held: &Held) {
    let (mut own, mut others) = (&held.pair.0, &held.pair.1);
    own.write_all(b"a").unwrap();
    let mut received = [0; 1];
    others.read_exact(&mut received).unwrap();
    own.set_nonblocking(true).unwrap();
    assert_eq!(own.read(&mut received).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    own.try_clone().unwrap();
    UnixStream::pair().unwrap();
    assert_eq!(std::thread::Builder::new().name("t".to_owned()).spawn(|| 1).unwrap().join().unwrap(), 1);
    rustix::process::nice(1).unwrap();
    rustix::fs::fcntl_add_seals(&held.memory, rustix::fs::SealFlags::GROW).unwrap();
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 1000, tv_usec: 0 },
    };
    for which in [libc::ITIMER_REAL, libc::ITIMER_PROF] {
        assert_eq!(call(libc::SYS_setitimer, [which.into(), &raw const timer as c_long, 0, 0, 0, 0]), 0);
    }
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Core).current, Some(0));
}
