//! The `plugsock` command as a process.

use std::io::{BufRead, BufReader, Read};
use std::mem;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use plugsock::ServeAddress;
use plugsock::control::Status;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tempfile::TempDir;

use super::process::bytes;
use super::{Client, PATIENCE, cache_dir};

/// The `plugsock` command of this source tree, in the profile of the tests.
pub fn plugsock() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(build))
}

fn build() -> PathBuf {
    let built = cargo("build").args(["--bin", "plugsock"]).status().unwrap();
    assert!(built.success(), "the host does not build");
    built_in().join("plugsock")
}

/// The directory of what is built in the profile of the tests.
fn built_in() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).expect("tests run in target/PROFILE/deps").to_owned()
}

/// A command of cargo's for the whole workspace, in the profile of the tests; then what it builds shares the features of
/// the dependencies with them.
pub fn cargo(command: &str) -> Command {
    let directory = built_in();
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => unreachable!("a profile has a name"),
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([command, "--quiet", "--profile", profile, "--target-dir"])
        .arg(directory.parent().unwrap())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    // What `cargo test` says of this package would be news to build scripts of others (that of `ring`), which run again then.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// How a command ended, and all that it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command that ends by itself.
pub fn run(command: &mut Command) -> Ended {
    let mut running = Running::start(command);
    let stdout = running.stdout.iter().collect();
    let code = running.wait().code();
    Ended { code, stdout, stderr: running.log.text() }
}

/// What names the user's runtime directory.
pub const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// A process that is gone when this is dropped.
struct Running {
    child: Child,
    stdout: Lines,
    log: Log,
    /// Where it puts its control socket.
    runtime: TempDir,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let runtime = TempDir::new().unwrap();
        if !command.get_envs().any(|(name, _)| name == RUNTIME_DIR) {
            command.env(RUNTIME_DIR, runtime.path());
        }
        let command =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let stdout = Lines::read(child.stdout.take().unwrap());
        let log = Log::read(child.stderr.take().unwrap());
        Self { child, stdout, log, runtime }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end, and for that of all processes that it started and that write to its log.
    fn wait(&mut self) -> ExitStatus {
        self.wait_for_exit();
        self.log.wait_for_end();
        self.child.wait().unwrap()
    }

    fn wait_for_exit(&self) {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        let patience = PATIENCE.try_into().unwrap();
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ended, 1, "the host does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With all processes that it started.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of the host:\n{}", self.log.excerpt());
        } else {
            self.log.wait_for_end();
            let panics = self.log.panics();
            assert!(panics.is_empty(), "it panicked: {panics:?}\n{}", self.log.excerpt());
        }
    }
}

/// A process's standard output as it comes. Locked so that threads can share a host.
pub(super) struct Lines(Mutex<Receiver<String>>);

impl Lines {
    pub(super) fn read(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = sender.send(line + "\n");
            }
        });
        Self(Mutex::new(lines))
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&self) -> Option<String> {
        match self.0.lock().unwrap().recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the host writes nothing"),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = String> {
        std::iter::from_fn(|| self.next())
    }
}

/// A process's standard error.
#[derive(Clone)]
pub struct Log(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    is_at_end: bool,
}

impl Log {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                writer.update(|written| written.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.update(|written| written.is_at_end = true);
        });
        log
    }

    fn update(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Waits until the log is as wanted.
    fn wait_until<T>(&self, what: &str, mut wanted: impl FnMut(&Written) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut written = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = wanted(&written) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(written);
                panic!("waited in vain for {what} in the log:\n{}", self.excerpt());
            }
            written = self.0.1.wait_timeout(written, left).unwrap().0;
        }
    }

    /// The first line that contains `text`, when it comes.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_count(text, 1).swap_remove(0)
    }

    /// All lines that contain `text`, when there are as many as `count`.
    pub fn wait_for_count(&self, text: &str, count: usize) -> Vec<String> {
        let (mut seen, mut found) = (0, Vec::new());
        self.wait_until(text, |written| {
            // Each line is looked at once: many may wait for one among many thousands.
            found.extend(written.lines[seen..].iter().filter(|line| line.contains(text)).cloned());
            seen = written.lines.len();
            (found.len() >= count).then(|| mem::take(&mut found))
        })
    }

    fn wait_for_end(&self) {
        self.wait_until("its end", |written| written.is_at_end.then_some(()));
    }

    /// The lines that contain `text` by now.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.wait_for_count(text, 0)
    }

    /// The lines by which Rust says that a thread has panicked; those of guests have the log's own words before them.
    fn panics(&self) -> Vec<String> {
        let lines = self.lines_with("panicked at ");
        lines.into_iter().filter(|line| line.starts_with("thread '")).collect()
    }

    /// The lines of a log that people are to read.
    fn excerpt(&self) -> String {
        self.text().lines().map(|line| format!("{line:.500}\n")).collect()
    }

    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.iter().map(|line| line.clone() + "\n").collect()
    }
}

/// `plugsock serve`, ready to be asked.
pub struct Host {
    process: Running,
    /// What it said when it was ready, a line an address.
    pub ready: Vec<String>,
    pub addresses: Vec<ServeAddress>,
    pub log: Log,
}

impl Host {
    /// Starts `plugsock serve` with the tests' cache, unless the arguments choose another.
    pub fn serve<S: AsRef<str>>(args: &[S]) -> Self {
        Self::serve_by(plugsock(), args)
    }

    /// Like [`serve`](Self::serve) with a `plugsock` command that was prepared in some way.
    pub fn serve_by<S: AsRef<str>>(mut command: Command, args: &[S]) -> Self {
        command.arg("serve");
        Self::start(command, args)
    }

    /// Starts a command that serves, with its subcommand.
    pub fn start<S: AsRef<str>>(command: Command, args: &[S]) -> Self {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        let addresses = args.iter().filter(|arg| is_address(arg)).count().max(1);
        Self::start_sockets(command, addresses, &args)
    }

    /// Like [`serve_by`](Self::serve_by) with as many sockets to serve, some of which the command inherits.
    pub fn serve_sockets(mut command: Command, count: usize, args: &[&str]) -> Self {
        command.arg("serve");
        Self::start_sockets(command, count, args)
    }

    fn start_sockets(mut command: Command, count: usize, args: &[&str]) -> Self {
        if !args.iter().any(|arg| arg.contains("-cache")) {
            command.arg("--cache-dir").arg(cache_dir());
        }
        let process = Running::start(command.args(args));
        let ready: Vec<String> = process.stdout.iter().take(count).collect();
        let addresses: Vec<_> = ready.iter().filter_map(|line| address(line)).collect();
        assert_eq!(addresses.len(), count, "not ready: {ready:?}\n{}", process.log.text());
        let log = process.log.clone();
        Self { process, ready, addresses, log }
    }

    /// Serves a guest on a free TCP port.
    pub fn tcp(name: &str, args: &[&str]) -> Self {
        Self::serve(&[&["tcp://127.0.0.1:0", &super::guest(name)], args].concat())
    }

    /// The next line that it writes to standard output.
    pub fn line(&self) -> String {
        self.process.stdout.next().expect("it goes on")
    }

    pub fn address(&self) -> &ServeAddress {
        &self.addresses[0]
    }

    pub fn ask(&self, data: &[u8]) -> Vec<u8> {
        Client::ask(self.address(), data)
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// A client whose request is being served, by a handler that echoes.
    pub fn greeted(&self) -> Client {
        Client::greeted(self.address())
    }

    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Runs `plugsock ctl` so that it finds this host by itself.
    pub fn ctl(&self, args: &[&str]) -> Ended {
        run(plugsock().arg("ctl").args(args).env(RUNTIME_DIR, self.process.runtime.path()))
    }

    /// What it says of itself.
    pub fn status(&self) -> Status {
        let ended = self.ctl(&["status", "--json"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Where its control socket is, unless it was told otherwise.
    pub fn control_socket(&self) -> PathBuf {
        let pid = self.pid().as_raw_pid();
        self.process.runtime.path().join("plugsock").join(format!("{pid}.sock"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end that was asked for before; the exit status.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Waits for the end of the process itself, though others may go on that it started.
    pub fn wait_for_exit(&self) {
        self.process.wait_for_exit();
    }

    /// Asks it to end, and waits until it does.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

/// What a host holds: its threads, the processes that it and its helpers are, and its descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    pub threads: usize,
    pub processes: usize,
    pub descriptors: usize,
}

impl Host {
    pub fn resources(&self) -> Resources {
        let pid = self.pid();
        let count = |what| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        Resources { threads: count("task"), processes: processes_in(pid), descriptors: count("fd") }
    }

    pub fn descriptors(&self) -> usize {
        self.resources().descriptors
    }

    /// The processor time that its threads have had so far; that of threads which have ended is not counted.
    pub fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        let spent = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
        Duration::from_nanos(
            spent.map(|spent| spent.split(' ').next().unwrap().parse::<u64>().unwrap()).sum(),
        )
    }

    /// The memory that it occupies now, in bytes; its children's apart.
    pub fn memory(&self) -> usize {
        bytes(self.pid(), "VmRSS:") as usize
    }

    /// The most memory that it occupied at any time, in bytes.
    pub fn peak_memory(&self) -> usize {
        bytes(self.pid(), "VmHWM:") as usize
    }

    /// Waits until the host holds no more than it did; what ends has nothing to tell of it.
    pub fn wait_for_resources(&self, before: &Resources) {
        let deadline = Instant::now() + PATIENCE;
        let mut now = self.resources();
        while now.threads > before.threads
            || now.processes > before.processes
            || now.descriptors > before.descriptors
        {
            assert!(Instant::now() < deadline, "{before:?} have become {now:?}");
            thread::yield_now();
            now = self.resources();
        }
    }
}

/// How many processes are in a group, zombies included.
fn processes_in(group: Pid) -> usize {
    let groups = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // `PID (NAME) STATE PARENT GROUP`, and a name may have spaces.
        Pid::from_raw(stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()?)
    });
    groups.filter(|other| *other == group).count()
}

/// The address in `ready ADDRESS HANDLER DIGEST STRATEGY`.
fn address(line: &str) -> Option<ServeAddress> {
    let mut words = line.split(' ');
    (words.next() == Some("ready")).then(|| words.next()?.parse().ok())?
}

/// Whether an argument is to be bound; a handler in a registry is not.
fn is_address(argument: &str) -> bool {
    let scheme = argument.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| *scheme != "oci");
    // What has an address somewhere within is an option's value.
    scheme.is_some_and(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+'))
}

/// Also if the test does not look at its log.
#[test]
#[should_panic(expected = "it panicked")]
fn no_test_passes_whose_host_panics() {
    let panicking = "echo \"thread 'main' (1) panicked at host/src/main.rs:1:1:\" >&2";
    run(Command::new("sh").args(["-c", panicking]));
}
