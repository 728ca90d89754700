//! What befalls a host from its surroundings: it goes on serving, and says what is wrong.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use plugsock::Refused;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Client, Fault, Faults, Host, RUNTIME_DIR, cache_dir, for_each_strategy, guest, is_installed, plugin,
    plugsock, run, stop, wait_until,
};

const TCP: &str = "tcp://127.0.0.1:0";
const DAY: i64 = 24 * 60 * 60;

/// O13: no deadline comes early when the wall clock jumps, and none late.
#[test]
fn deadlines_do_not_follow_the_wall_clock() {
    for_each_strategy(|strategy| {
        for offset in [DAY, -DAY] {
            let args = [TCP, "--concurrency", strategy];
            let times = ["--request-time", "1h", "--idle-timeout", "1h", "--min-rate", "1/s:1h"];
            let Some((faults, host)) = Faults::serve(&[&args[..], &times].concat()) else { return };
            let client = host.greeted();
            faults.set(Fault::ClockOffset, offset);
            assert_eq!(client.exchange(b"not early"), b"not early");
            let Some((faults, host)) = Faults::serve(&[&args[..], &["--idle-timeout", "500ms"]].concat())
            else {
                return;
            };
            let client = host.greeted();
            faults.set(Fault::ClockOffset, offset);
            assert!(client.is_closed());
            // The clock did jump, as far as the host can see.
            let line = host.log.wait_for("client dropped: idle time limit of 500ms reached");
            let is_today = |line: &str| line.starts_with(&today());
            assert!(!is_today(&line), "{line}");
        }
    });
}

/// O13: nor does a rate allow more, or a replaced version end, before its time or after it.
#[test]
fn rates_and_drains_do_not_follow_the_wall_clock() {
    for strategy in ["threading", "forking"] {
        for offset in [DAY, -DAY] {
            let args = [TCP, "--concurrency", strategy];
            let long = ["--max-drain", "1h", "--connection-rate", "1/h:2"];
            let Some((faults, host)) = Faults::serve(&[&args[..], &long].concat()) else { return };
            let replaced = host.greeted();
            assert_eq!(host.ctl(&["swap", &plugin("upper")]).code, Some(0));
            faults.set(Fault::ClockOffset, offset);
            assert_eq!(host.ask(b"b"), b"B");
            assert!(host.connect().is_closed());
            assert_eq!(replaced.exchange(b"b"), b"b");
            let Some((faults, host)) = Faults::serve(&[&args[..], &["--max-drain", "500ms"]].concat()) else {
                return;
            };
            let replaced = host.greeted();
            faults.set(Fault::ClockOffset, offset);
            assert_eq!(host.ctl(&["swap", &plugin("upper")]).code, Some(0));
            assert!(replaced.is_closed());
        }
    }
}

/// The date, as the log begins with it.
fn today() -> String {
    let printed = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(printed.stdout).unwrap().trim_end().to_owned()
}

/// A request for which there is no thread or process is closed, and those that are open go on.
#[test]
fn without_threads_or_processes_a_request_is_closed_and_the_host_lives() {
    for (strategy, fault, said) in
        [("threading", Fault::NoThreads, "no thread for it"), ("forking", Fault::NoForks, "cannot fork")]
    {
        let Some((faults, mut host)) = Faults::serve(&[TCP, "--concurrency", strategy]) else { return };
        let open = host.greeted();
        faults.set(fault, 1);
        for _ in 0..5 {
            assert!(host.connect().is_closed(), "{strategy}");
        }
        host.log.wait_for_count(said, 5);
        faults.set(fault, 0);
        assert_eq!(host.status().servers[0].refused, Refused { no_thread: 5, ..Refused::default() });
        assert_eq!(host.ask(b"hello"), b"hello");
        assert_eq!(open.exchange(b"b"), b"b");
        faults.set(fault, 1);
        assert!(host.terminate().success());
    }
}

/// A handler that waits for several things needs a thread of the host's to wait on.
#[test]
fn without_a_thread_to_wait_on_a_request_is_closed_and_the_host_lives() {
    for strategy in ["sync", "pool"] {
        let args = [TCP, &guest("streams_echo"), TCP, &plugin("echo"), "--concurrency", strategy];
        let Some((faults, host)) = Faults::serve(&args) else { return };
        // By now all threads run that serving itself takes.
        assert_eq!(Client::ask(&host.addresses[1], b"hello"), b"hello");
        faults.set(Fault::NoThreads, 1);
        for _ in 0..3 {
            assert!(host.connect().is_closed(), "{strategy}");
        }
        host.log.wait_for_count("host error: the system has no thread to wait on for handlers", 3);
        faults.set(Fault::NoThreads, 0);
        assert_eq!(host.ask(b"hello"), b"hello");
    }
}

/// A fork server that is killed when it has been given a request and has made no process for it: the next one serves it.
/// Only what kills one fork server after the other is given up, though children of the first live on.
#[test]
fn a_request_outlives_its_fork_server() {
    let Some((faults, host)) = Faults::serve(&[TCP, "--concurrency", "forking"]) else { return };
    let open = host.greeted();
    faults.set(Fault::NoForks, -1);
    assert_eq!(host.ask(b"hello"), b"hello");
    host.log.wait_for("the fork server died");
    faults.set(Fault::NoForks, -3);
    assert!(host.connect().is_closed());
    host.log.wait_for("no fork server lives to take it");
    host.log.wait_for_count("the fork server died", 4);
    assert_eq!(faults.get(Fault::NoForks), 0);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(open.exchange(b"b"), b"b");
    wait_until(|| host.status().servers[0].open == 0);
}

/// C10: the whole system has no more files. The host asks a few times a second, and goes on by itself.
#[test]
fn without_files_in_the_system_the_host_waits() {
    for_each_strategy(|strategy| {
        let Some((faults, host)) = Faults::serve(&[TCP, "--concurrency", strategy]) else { return };
        assert_eq!(host.ask(b"hello"), b"hello");
        faults.set(Fault::NoFiles, 1);
        let waiting = host.connect();
        waiting.send(b"later");
        host.log.wait_for("cannot accept: ");
        let (since, asked, spent) = (Instant::now(), faults.get(Fault::Accepts), cpu_time(&host));
        // Nothing tells of what does not happen: only some time without it.
        std::thread::sleep(Duration::from_secs(1));
        let (asked, spent) = (faults.get(Fault::Accepts) - asked, cpu_time(&host) - spent);
        let seconds = since.elapsed().as_secs_f64();
        assert!((asked as f64) < 20.0 * seconds, "asked {asked} times in {seconds} s");
        assert!(spent.as_secs_f64() < 0.05 * seconds + 0.02, "used {spent:?} in {seconds} s");
        faults.set(Fault::NoFiles, 0);
        assert_eq!(waiting.exchange(b""), b"later");
    });
}

/// User and system time of all threads of a host.
fn cpu_time(host: &Host) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.pid().as_raw_nonzero())).unwrap();
    // `PID (NAME) STATE …`, and a name may have spaces. The clock has 100 ticks a second.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// A host whose log and ready line go where nothing can be written.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    for_each_strategy(|strategy| {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let broken = || std::io::pipe().unwrap().1;
        serves_without_a_log(plugsock().stdout(full()).stderr(full()), strategy);
        serves_without_a_log(plugsock().stdout(broken()).stderr(broken()), strategy);
        let mut closed = Command::new("sh");
        closed.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(plugsock().get_program());
        serves_without_a_log(&mut closed, strategy);
    });
}

fn serves_without_a_log(command: &mut Command, strategy: &str) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix://{}", directory.path().join("socket").display());
    command
        .args(["serve", &address, "--concurrency", strategy, "--log-level", "debug", "--cache-dir"])
        .arg(cache_dir())
        .env(RUNTIME_DIR, directory.path());
    let mut host = command.spawn().unwrap();
    let _killed = KillOnDrop(Pid::from_child(&host));
    let address = address.parse().unwrap();
    wait_until(|| Client::try_connect(&address).is_ok());
    for _ in 0..3 {
        assert_eq!(Client::ask(&address, b"hello"), b"hello");
        Client::connect(&address).reset();
    }
    kill_process(Pid::from_child(&host), Signal::TERM).unwrap();
    assert!(host.wait().unwrap().success());
}

struct KillOnDrop(Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

/// O12: a handler that cannot be kept is served, and nothing half-written stays.
#[test]
fn a_full_disk_for_the_cache_costs_the_cache_alone() {
    let directory = tempfile::tempdir().unwrap();
    let Some(command) = with_mounted("size=64k", directory.path()) else { return };
    let cache = directory.path().join("cache");
    let host = Host::serve_by(command, &[TCP, &plugin("echo"), "--cache-dir", &cache.display().to_string()]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(host.log.wait_for("cannot keep the compiled handler").contains("No space left"));
    // In the host's own view of the file system.
    let seen = format!("/proc/{}/root{}", host.pid().as_raw_nonzero(), cache.display());
    assert_eq!(std::fs::read_dir(seen).unwrap().count(), 0);
}

/// It costs the cache, and the control socket that nobody asked for; another socket that cannot be had is an error.
#[test]
fn a_read_only_file_system_costs_what_is_not_needed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let read_only = || with_mounted("ro,mode=700", directory.path());
    for_each_strategy(|strategy| {
        let Some(command) = read_only() else { return };
        let args = [TCP, &plugin("echo"), "--cache-dir", &at("cache"), "--concurrency", strategy];
        let host = Host::serve_by(command, &args);
        assert_eq!(host.ask(b"hello"), b"hello");
        assert!(host.log.wait_for("compiled handlers are not kept").contains("Read-only file system"));
    });
    let is_refused = |mut command: Command, args: &[&str], words: &[&str]| {
        let ended = run(command.args(["serve", "--cache-dir"]).arg(cache_dir()).args(args));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        for word in [&["Read-only file system"], words].concat() {
            assert!(ended.stderr.contains(word), "no '{word}' in {ended:?}");
        }
    };
    let Some(command) = read_only() else { return };
    is_refused(command, &[&format!("unix://{}", at("socket"))], &[&at("socket")]);
    let Some(command) = read_only() else { return };
    is_refused(command, &[TCP, "--control", &at("control")], &[&at("control")]);
    let Some(mut command) = read_only() else { return };
    command.env(RUNTIME_DIR, directory.path());
    // Nobody asked for this one.
    let host = Host::serve_by(command, &[TCP]);
    assert!(host.log.wait_for("no control socket").contains("Read-only file system"));
    assert_eq!(host.ask(b"hello"), b"hello");
}

/// A `plugsock` that finds a file system of its own in place of a directory; says so where none can be mounted.
fn with_mounted(options: &str, directory: &Path) -> Option<Command> {
    if !is_installed("unshare") {
        return None;
    }
    let unshare = || {
        let mount = format!("mount -t tmpfs -o {options} none {} && exec \"$0\" \"$@\"", directory.display());
        let user = if rustix::process::geteuid().is_root() { &[][..] } else { &["--map-root-user"] };
        let mut command = Command::new("unshare");
        command.args(user).args(["--mount", "sh", "-c", &mount]);
        command
    };
    if !unshare().arg("true").status().unwrap().success() {
        eprintln!("skipped: this process may not mount");
        return None;
    }
    let mut command = unshare();
    command.arg(plugsock().get_program());
    Some(command)
}

/// A cache that others write to at the same time, and badly.
#[test]
fn a_cache_that_is_spoilt_while_hosts_start_harms_none() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let args = [TCP, &plugin("echo"), "--cache-dir", &cache.display().to_string()];
    Host::serve(&args);
    std::thread::scope(|scope| {
        let starting: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| (0..3).for_each(|_| assert_eq!(Host::serve(&args).ask(b"hello"), b"hello")))
            })
            .collect();
        while starting.iter().any(|host| !host.is_finished()) {
            entries(&cache).for_each(|entry| spoil(&entry));
        }
    });
}

fn entries(cache: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path())
}

/// Turns one byte of a file around, if it is still there.
fn spoil(entry: &Path) {
    use std::os::unix::fs::FileExt;
    let Ok(file) = File::options().read(true).write(true).open(entry) else { return };
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    if file.read_exact_at(&mut byte, at).is_ok() {
        let _ = file.write_all_at(&[!byte[0]], at);
    }
}

/// A host that was stopped goes on where it was; who waited meanwhile is served.
#[test]
fn a_stopped_host_goes_on() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&[TCP, "--concurrency", strategy]);
        let open = host.greeted();
        stop(host.pid());
        open.send(b"b");
        let waiting = host.connect();
        waiting.send(b"later");
        if strategy != "forking" {
            assert!(open.has_nothing());
        }
        host.signal(Signal::CONT);
        assert_eq!(open.exchange(b"c"), b"bc");
        assert_eq!(waiting.exchange(b""), b"later");
    });
}
