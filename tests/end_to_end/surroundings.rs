//! What the parent and the place leave behind: the host serves as from a clean shell, or says in one line what is wrong.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use plugsock::ServeAddress;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::harness::{
    Client, Deployed, Ended, Host, PATIENCE, RUNTIME_DIR, cache_dir, children, for_each_strategy, guest,
    is_installed, is_running, plugin, plugsock, run, status, wait_until, with_descendants,
};
use crate::upgrade::{end, upgrade};

const TCP: &str = "tcp://127.0.0.1:0";

/// A `plugsock` below a shell that does something first.
fn after(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script} exec \"$0\" \"$@\"")]).arg(plugsock().get_program());
    command
}

/// A `plugsock` that makes some system calls before it is one.
fn prepared(prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Command {
    let mut command = plugsock();
    // SAFETY: what the tests prepare makes system calls only.
    unsafe { command.pre_exec(prepare) };
    command
}

fn limited(resource: Resource, limit: Rlimit) -> Command {
    prepared(move || Ok(setrlimit(resource, limit)?))
}

/// Soft and hard.
fn at_most(resource: Resource, limit: u64) -> Command {
    limited(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}

fn at_first(resource: Resource, limit: u64) -> Command {
    limited(resource, Rlimit { current: Some(limit), ..getrlimit(resource) })
}

/// It ends with one line that has these words.
fn is_refused(command: &mut Command, args: &[&str], words: &[&str]) {
    let ended = refused(command, args);
    for word in words {
        assert!(ended.stderr.contains(word), "no '{word}' in {ended:?}");
    }
}

fn refused(command: &mut Command, args: &[&str]) -> Ended {
    command.args(["serve", TCP]).args(args);
    if !args.contains(&"--no-cache") {
        command.arg("--cache-dir").arg(cache_dir());
    }
    let ended = run(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended
}

/// E1: all signals are ignored and blocked, and nobody notices.
#[test]
fn no_signal_stays_ignored_or_blocked() {
    if !Command::new("env").args(["--ignore-signal", "--block-signal", "true"]).status().unwrap().success() {
        eprintln!("skipped: this `env` sets no signals");
        return;
    }
    for_each_strategy(|strategy| {
        let mut command = Command::new("env");
        command.args(["--ignore-signal", "--block-signal"]).arg(plugsock().get_program());
        let mut host = Host::serve_by(command, &[TCP, &plugin("echo"), "--concurrency", strategy]);
        for _ in 0..3 {
            assert_eq!(host.ask(b"hello"), b"hello");
        }
        for process in [vec![host.pid()], children(host.pid())].concat() {
            // The C library keeps two signals to itself.
            let signals = |field| u64::from_str_radix(&status(process, field), 16).unwrap() & !(3 << 31);
            // SIGPIPE, SIGTTIN, SIGTTOU and SIGXFSZ, whose number each counts from 1.
            let ignored = [13, 21, 22, 25].iter().map(|signal| 1 << (signal - 1)).sum::<u64>();
            assert_eq!((signals("SigBlk:"), signals("SigIgn:")), (0, ignored), "{process}");
        }
        host.signal(Signal::HUP);
        host.log.wait_for("serves already");
        assert!(!host.log.text().contains("fork server died"), "{}", host.log.text());
        assert!(host.terminate().success());
    });
}

/// E2: to write beyond the largest size of a file is an error for whoever writes, and no signal for the host.
#[test]
fn a_file_that_grows_too_large_costs_its_request_alone() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("{}::/d:rw", directory.path().display());
    let args = [TCP, &guest("file_access"), "--dir", &dir];
    // Compiled without a limit.
    Host::serve(&args);
    for_each_strategy(|strategy| {
        let command = at_most(Resource::Fsize, 2 << 20);
        let mut host = Host::serve_by(command, &[&args[..], &["--concurrency", strategy]].concat());
        let large = [b"write /d/large ", &vec![b'x'; 3 << 20][..], b"\n"].concat();
        for _ in 0..2 {
            let answer = host.ask(&large);
            assert!(answer.starts_with(b"error: "), "{}", String::from_utf8_lossy(&answer));
            assert_eq!(host.ask(b"write /d/small a\n"), b"written\n");
        }
        assert!(host.terminate().success());
    });
}

/// E2: what is passed on in memory is a file, too.
#[test]
fn a_component_that_is_too_large_a_file_is_refused_in_words() {
    let words = ["no more than 4096 bytes", "ulimit -f"];
    for_each_strategy(|strategy| {
        let mut command = at_most(Resource::Fsize, 4096);
        let ended = run(command.args(["serve", TCP, "--no-cache", "--concurrency", strategy]));
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
        words.iter().for_each(|word| assert!(ended.stderr.contains(word), "{ended:?}"));
    });
}

/// E2: a host with so much CPU time would end for no fault of its own.
#[test]
fn cpu_time_is_not_limited() {
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy];
        is_refused(&mut at_most(Resource::Cpu, 100), &args, &["100 s of CPU time", "ulimit -t"]);
        let host = Host::serve_by(at_first(Resource::Cpu, 100), &[TCP, "--concurrency", strategy]);
        assert_eq!(host.ask(b"hello"), b"hello");
        for process in [vec![host.pid()], children(host.pid())].concat() {
            let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
            let line = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap();
            assert_eq!(line.split_whitespace().nth(3), Some("unlimited"));
        }
    });
}

/// E2, G3: guests have their stack, whatever a main thread was given.
#[test]
fn a_small_stack_is_raised_or_refused() {
    for_each_strategy(|strategy| {
        let args = [TCP, &guest("deep_recursion"), "--concurrency", strategy];
        let host = Host::serve_by(at_first(Resource::Stack, 256 << 10), &args);
        for count in 1..=2 {
            assert!(host.connect().is_closed());
            host.log.wait_for_count("handler trapped", count);
        }
    });
    if !may_raise_limits() {
        is_refused(&mut at_most(Resource::Stack, 256 << 10), &[], &["262144 bytes", "ulimit -s"]);
    }
}

/// Whether this user is above limits.
fn may_raise_limits() -> bool {
    let limit = getrlimit(Resource::Core);
    let Some(maximum) = limit.maximum else {
        // Lowered in another process, which then tries.
        let raise = || Ok(setrlimit(Resource::Core, Rlimit { current: None, maximum: None })?);
        let mut command = Command::new("true");
        // SAFETY: it makes system calls only.
        unsafe {
            command
                .pre_exec(|| Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?))
                .pre_exec(raise);
        }
        return command.status().is_ok();
    };
    setrlimit(Resource::Core, Rlimit { maximum: Some(maximum + 1), ..limit }).is_ok()
}

/// E2: what no host can live with is said at the start.
#[test]
fn limits_that_are_too_low_are_said_at_the_start() {
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy];
        is_refused(&mut at_most(Resource::Data, 100 << 20), &args, &["104857600 bytes of data", "ulimit -d"]);
        if !may_raise_limits() {
            is_refused(&mut at_most(Resource::Nofile, 10), &args, &["10 descriptors", "ulimit -n"]);
        }
        // Root may have any number of processes.
        if rustix::process::geteuid().is_root() {
            let args = ["--concurrency", strategy, "--user", "65534", "--no-control", "--no-cache"];
            let ended = refused(&mut at_most(Resource::Nproc, 1), &args);
            let words = ["ulimit -u", "raise"];
            assert!(words.iter().all(|word| ended.stderr.contains(word)), "{ended:?}");
        }
    });
}

/// E2: what a host does without.
#[test]
fn limits_on_what_is_not_used_do_no_harm() {
    for_each_strategy(|strategy| {
        for resource in [Resource::Memlock, Resource::Sigpending, Resource::Msgqueue, Resource::Core] {
            let host = Host::serve_by(at_most(resource, 0), &[TCP, "--concurrency", strategy]);
            assert_eq!(host.ask(b"hello"), b"hello");
            assert_eq!(host.log.text(), "");
        }
        // What a child is given is no more than its host has.
        let host = Host::serve_by(at_most(Resource::Nofile, 100), &[TCP, "--concurrency", strategy]);
        assert_eq!(host.ask(b"hello"), b"hello");
        assert!(!host.log.text().contains("resource limits"), "{}", host.log.text());
    });
}

/// A helper gets what it needs, and nothing that a guest that broke out should find.
#[test]
fn helpers_inherit_little() {
    for_each_strategy(|strategy| {
        let (reader, writer) = std::io::pipe().unwrap();
        fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        let mut command = plugsock();
        command.env("PLUGSOCK_TEST_SECRET", "secret").env("TZ", "UTC");
        let host = Host::serve_by(command, &[TCP, "--concurrency", strategy]);
        drop(writer);
        let pipe = fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
        let _open = (strategy == "forking").then(|| host.greeted());
        let helpers: Vec<_> = with_descendants(host.pid()).into_iter().skip(1).collect();
        assert_eq!(helpers.len(), if strategy == "forking" { 2 } else { 0 });
        for helper in helpers {
            let variables = fs::read_to_string(format!("/proc/{helper}/environ")).unwrap();
            let names: Vec<_> =
                variables.split_terminator('\0').filter_map(|text| text.split('=').next()).collect();
            let is_needed = |name: &&str| {
                ["PLUGSOCK_HELPER_PROCESS", "TZ", "NO_COLOR"].contains(name)
                    || name.starts_with("LD_")
                    || name.starts_with("RUST_")
            };
            assert!(names.iter().all(is_needed) && names.contains(&"TZ"), "{names:?}");
            let open = fs::read_dir(format!("/proc/{helper}/fd")).unwrap();
            assert!(open.flatten().all(|fd| fs::read_link(fd.path()).unwrap() != pipe));
            assert_eq!(fs::read_link(format!("/proc/{helper}/fd/1")).unwrap(), Path::new("/dev/null"));
        }
    });
}

/// E3
#[test]
fn a_directory_that_is_gone_and_a_mask_of_all_modes_do_no_harm() {
    for_each_strategy(|strategy| {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(at("gone")).unwrap();
        let command = after(&format!("umask 0777; cd {0} && rmdir {0};", at("gone")));
        let (address, cache) = (format!("unix://{}", at("socket")), at("cache"));
        let args = [&address, "--cache-dir", &cache, "--concurrency", strategy];
        let mut host = Host::serve_by(command, &args);
        assert_eq!(host.ask(b"hello"), b"hello");
        assert_eq!(host.ctl(&["status"]).code, Some(0));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(at("socket").as_ref()) & 0o600, 0o600);
        assert_eq!(mode(cache.as_ref()) & 0o700, 0o700);
        let entries: Vec<_> = fs::read_dir(&cache).unwrap().collect();
        assert!(entries.len() == 1 && mode(&entries[0].as_ref().unwrap().path()) & 0o600 == 0o600);
        assert!(host.terminate().success());
    });
}

/// E3: without /proc it could not start itself anew.
#[test]
fn a_missing_proc_is_said_before_anything_is_bound() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    for_each_strategy(|strategy| {
        let Some(mut command) = unshared(&["--mount"], "mount -t tmpfs none /proc &&") else { return };
        let address = format!("unix://{}", socket.display());
        is_refused(&mut command, &[&address, "--concurrency", strategy], &["/proc", "mount -t proc"]);
        assert!(!socket.exists());
    });
}

/// A `plugsock` in namespaces of its own, after a shell has done something; says so where there are none.
fn unshared(options: &[&str], script: &str) -> Option<Command> {
    if !is_installed("unshare") {
        return None;
    }
    let user = if rustix::process::geteuid().is_root() { &[][..] } else { &["--map-root-user"] };
    let unshare = |options: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(user).args(options);
        command
    };
    if !unshare(options).arg("true").status().unwrap().success() {
        eprintln!("skipped: this process may have no namespaces");
        return None;
    }
    let mut command = unshare(options);
    command.args(["sh", "-c", &format!("{script} exec \"$0\" \"$@\"")]).arg(plugsock().get_program());
    Some(command)
}

/// E3: the first process of its namespace reaps whom it adopts, and no status of its own is lost.
#[test]
fn the_first_process_of_a_namespace_reaps_its_orphans_and_is_not_upgraded() {
    for_each_strategy(|strategy| {
        let options = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        let Some(command) = unshared(&options, "true &") else { return };
        let deployed = Deployed::new(&fs::read(plugin("echo")).unwrap());
        let host = Host::serve_by(command, &[TCP, &deployed.path(), "--no-cache", "--concurrency", strategy]);
        assert_eq!(host.ask(b"hello"), b"hello");
        let first = children(host.pid())[0];
        reaps(&host, first, &deployed);
        kill_process(first, Signal::USR2).unwrap();
        let line = host.log.wait_for("nothing takes over, this process serves on");
        assert!(line.contains("the first of its PID namespace"), "{line}");
        assert_eq!(host.ask(b"hello"), b"HELLO");
    });
}

/// E3
#[test]
fn a_subreaper_reaps_its_orphans() {
    for_each_strategy(|strategy| {
        let mut command = after("true &");
        // SAFETY: it makes a system call only.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?));
        }
        let deployed = Deployed::new(&fs::read(plugin("echo")).unwrap());
        let host = Host::serve_by(command, &[TCP, &deployed.path(), "--no-cache", "--concurrency", strategy]);
        assert_eq!(host.ask(b"hello"), b"hello");
        reaps(&host, host.pid(), &deployed);
        let successor = upgrade(&host);
        host.wait_for_exit();
        assert_eq!(host.ask(b"hello"), b"HELLO");
        end(host, successor);
    });
}

/// The process that serves has no children that have ended, also none whose fork server did, and knows how its own ended.
fn reaps(host: &Host, process: Pid, deployed: &Deployed) {
    let has_no_dead = || children(process).into_iter().all(is_running);
    wait_until(has_no_dead);
    if let [fork_server] = children(process)[..] {
        let open = host.greeted();
        kill_process(fork_server, Signal::KILL).unwrap();
        host.log.wait_for("the fork server died (signal: 9");
        assert_eq!(open.exchange(b"b"), b"b");
        assert_eq!(host.ask(b"hello"), b"hello");
        // Its child has come to the process that serves.
        wait_until(|| children(process).len() == 1);
    }
    // A compiler is its own, too.
    deployed.replace(&fs::read(plugin("upper")).unwrap());
    kill_process(process, Signal::HUP).unwrap();
    host.log.wait_for("generation=2");
    assert_eq!(host.ask(b"hello"), b"HELLO");
    wait_until(has_no_dead);
}

/// A host whose standard error goes where the test wants it, gone when this is dropped.
struct Muted {
    process: Child,
    address: ServeAddress,
    directory: tempfile::TempDir,
}

impl Muted {
    fn serve(strategy: &str, stderr: impl Into<Stdio>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix://{}", directory.path().join("socket").display());
        let mut command = plugsock();
        command
            .args(["serve", &address, "--concurrency", strategy, "--log-level", "debug", "--cache-dir"])
            .arg(cache_dir())
            .env(RUNTIME_DIR, directory.path())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        let muted = Self { process, address: address.parse().unwrap(), directory };
        let patience = PATIENCE.try_into().unwrap();
        let is_ready = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&patience));
        assert_eq!(is_ready, Ok(1), "it waits for its standard error");
        muted
    }

    fn serves(&self) {
        for _ in 0..3 {
            assert_eq!(Client::ask(&self.address, b"hello"), b"hello");
            Client::connect(&self.address).reset();
        }
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        assert!(!self.directory.path().join("socket").exists());
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// E4: a pipe that is full before the start, and while it serves, and that is read at last.
#[test]
fn a_full_pipe_keeps_nobody_waiting() {
    for_each_strategy(|strategy| {
        let (reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        let host = Muted::serve(strategy, writer.try_clone().unwrap());
        // It may have become larger.
        fill(&writer);
        host.serves();
        let said = RefCell::new(drain(&reader));
        // Now there is room for what each of these says.
        host.serves();
        let is_told = |said: &[u8]| String::from_utf8_lossy(said).contains("lines of the log were lost");
        wait_until(|| {
            said.borrow_mut().extend(drain(&reader));
            is_told(&said.borrow())
        });
        // Others who write there still wait as before.
        assert!(!fcntl_getfl(&writer).unwrap().contains(OFlags::NONBLOCK));
        host.end();
    });
}

/// Another description of the same pipe, which nobody waits for.
fn never_waiting(pipe: &impl AsFd, options: &mut OpenOptions) -> File {
    let path = format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd());
    options.custom_flags(OFlags::NONBLOCK.bits() as i32).open(path).unwrap()
}

fn fill(pipe: &impl AsFd) {
    let mut writer = never_waiting(pipe, File::options().write(true));
    while writer.write(&[b'.'; 4096]).is_ok() {}
}

fn drain(pipe: &PipeReader) -> Vec<u8> {
    let mut reader = never_waiting(pipe, File::options().read(true));
    let mut read = Vec::new();
    // It ends with what would block.
    let _ = reader.read_to_end(&mut read);
    read
}

/// E4: a socket, as a service has it.
#[test]
fn a_full_socket_keeps_nobody_waiting() {
    for_each_strategy(|strategy| {
        let (reader, writer) = UnixStream::pair().unwrap();
        let host = Muted::serve(strategy, OwnedFd::from(writer.try_clone().unwrap()));
        while send(&writer, &[b'.'; 4096], SendFlags::DONTWAIT) != Err(Errno::AGAIN) {}
        host.serves();
        drop(reader);
        host.serves();
        host.end();
    });
}
