//! Load on a host, from a process of its own.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

use super::host::Lines;

/// How many clients talk at once on each address.
pub struct Clients {
    /// That connect for every request, or have one datagram under way.
    pub short: usize,
    /// Whose connections last for many lines.
    pub long: usize,
    /// Whose connections last to the end.
    pub staying: usize,
}

/// Clients that talk to a host until this is dropped.
pub struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Option<JoinHandle<String>>,
    requests: u64,
}

/// What a load has counted.
#[derive(Debug, Default)]
pub struct Counted {
    /// Connections, datagrams and requests of HTTP that were served as they should be.
    pub requests: u64,
    /// Lines that were answered on connections.
    pub lines: u64,
    /// Refused, cut, unanswered, or answered wrongly.
    pub failed: u64,
    /// Answered by more than one version; or, by HTTP, by an earlier one than the request before.
    pub mixed: u64,
    /// Requests by the version that answered them.
    pub versions: BTreeMap<String, u64>,
    /// What was said of those that failed.
    pub failures: String,
}

/// How often it says how many requests have been served.
const EVERY: u64 = 10;

impl Load {
    /// On each address of a server, or at each URL of one that speaks HTTP.
    pub fn start(addresses: &[impl ToString], clients: &Clients) -> Self {
        let Clients { short, long, staying } = clients;
        let mut child = Command::new(env!("CARGO_BIN_EXE_load"))
            .args([short, long, staying].map(ToString::to_string))
            .arg(EVERY.to_string())
            .args(addresses.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Lines::read(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self { stdin: child.stdin.take(), child, stdout, stderr: Some(stderr), requests: 0 }
    }

    /// How many requests have been served so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Waits until so many requests have been served since it started.
    pub fn wait_for(&mut self, requests: u64) {
        while self.requests < requests {
            let line = self.stdout.next().expect("the load goes on");
            self.requests = line.trim().strip_prefix("progress ").unwrap().parse().unwrap();
        }
    }

    /// Ends it, and returns what it has counted.
    pub fn finish(mut self) -> Counted {
        drop(self.stdin.take());
        let last = self.stdout.iter().last().expect("it says what it counted");
        assert!(self.child.wait().unwrap().success());
        let failures = self.stderr.take().unwrap().join().unwrap();
        let mut counted = Counted { failures, ..Counted::default() };
        for (name, number) in last.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            let number: u64 = number.parse().unwrap();
            match name {
                "requests" => counted.requests = number,
                "lines" => counted.lines = number,
                "failed" => counted.failed = number,
                "mixed" => counted.mixed = number,
                _ => drop(counted.versions.insert(name.trim_start_matches("version-").to_owned(), number)),
            }
        }
        counted
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
