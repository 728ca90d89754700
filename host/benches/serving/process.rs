//! A process beside the driver: its first words awaited for a bounded time, itself killed on drop.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, set_parent_process_death_signal, setrlimit,
};

/// A running process, in a process group of its own that ends with it.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    stderr: File,
}

/// Why a process did not print what was expected of it.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    #[error("it ended with {status}: {words}")]
    Ended { status: ExitStatus, words: String },
    #[error("it said nothing in {patience:?}: {words}")]
    Waiting { patience: Duration, words: String },
    #[error(transparent)]
    Lost(io::Error),
}

impl Process {
    pub fn start(mut command: Command) -> io::Result<Self> {
        let stderr = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.try_clone()?).process_group(0);
        // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
        unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
        let mut child = command.spawn()?;
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines, stderr })
    }

    /// This binary in another role.
    pub fn role(name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name);
        Ok(command)
    }

    /// The next line that it prints.
    pub fn line(&mut self, patience: Duration) -> Result<String, Silence> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(Silence::Waiting { patience, words: self.words() }),
            // It has closed its standard output; nothing here does that and lives on.
            Err(RecvTimeoutError::Disconnected) => match self.child.wait() {
                Ok(status) => Err(Silence::Ended { status, words: self.words() }),
                Err(error) => Err(Silence::Lost(error)),
            },
        }
    }

    /// What it said on standard error.
    pub fn words(&mut self) -> String {
        let mut words = String::new();
        let _ = self.stderr.rewind().and_then(|()| self.stderr.read_to_string(&mut words));
        words.trim().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files as far as may be, also for the processes that are started from now on.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Only a privileged process may go beyond the maximum.
    let enough = maximum.map(|maximum| maximum.max(ENOUGH_DESCRIPTORS));
    let raise = |to| setrlimit(Resource::Nofile, Rlimit { current: to, maximum: to });
    Ok(raise(enough).or_else(|_| raise(maximum))?)
}

/// For fifty thousand connections, and then some.
const ENOUGH_DESCRIPTORS: u64 = 64 * 1024;

/// Why a process can't have that many connections open, if so.
pub fn too_many_descriptors(connections: usize) -> Option<String> {
    // Some more, for what a process needs besides.
    let needed = connections as u64 + 100;
    let limit = getrlimit(Resource::Nofile).current.filter(|limit| *limit < needed)?;
    Some(format!("it needs {needed} open files, and the limit is {limit}: raise `ulimit -n`"))
}

/// Runs a role to its end and parses the one line that it prints.
pub fn answer<T: serde::de::DeserializeOwned>(command: Command, patience: Duration) -> anyhow::Result<T> {
    let name = format!("{command:?}");
    let mut process = Process::start(command).with_context(|| name.clone())?;
    let line = process.line(patience).with_context(|| name.clone())?;
    serde_json::from_str(&line).map_err(|error| anyhow!("{name} printed {line:?}: {error}"))
}
