//! What of the machine a host depends on, and for how many open requests it is enough: the one source of what `serve`
//! refuses or warns of at its start, and of what `doctor` says.

mod cgroup;
mod files;
mod kernel;
mod limits;
mod memory;
mod processes;

use std::fs;
use std::str::FromStr;

use plugsock::Concurrency;
use serde::Serialize;

pub use files::{cache, file_size};
pub use kernel::{inotify, listen_queue, memory_files, process_handles, walls};
pub use limits::{cpu_time, descriptors, memory_areas, proc, stack};
pub use memory::{address_space, data, memory, overcommit};
pub use processes::{processes, processors};

/// How much is to be served.
#[derive(Default)]
pub struct Size {
    /// Open requests.
    pub requests: u64,
    /// Processes that serve them, if others than the host do.
    pub children: u64,
    /// Threads that there are without requests, and run guests.
    pub threads: u64,
    /// Threads of each request.
    pub threads_a_request: u64,
}

impl Size {
    /// Of so many requests at several addresses, each with a strategy.
    pub fn new(requests: usize, strategies: impl IntoIterator<Item = Concurrency>) -> Self {
        let mut size = Self { requests: requests as u64, ..Self::default() };
        for strategy in strategies {
            match strategy {
                Concurrency::Forking { max_children, .. } => size.children += max_children as u64,
                Concurrency::Pool { workers, .. } | Concurrency::Async { workers } => {
                    size.threads += workers as u64;
                }
                Concurrency::Threading { .. } => size.threads_a_request = 1,
                Concurrency::Sync => {}
            }
        }
        Self { children: size.children.min(size.requests), ..size }
    }
}

/// What was found of one thing.
#[derive(Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// What there is of it.
    pub found: String,
    /// How many open requests that is enough for, where it depends on it.
    pub requests: Option<u64>,
    pub verdict: Verdict,
    /// What is wrong, and what to do.
    pub advice: Option<String>,
}

/// What that means for a host, the worse the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Good,
    /// It serves, and does without something.
    Lacking,
    /// It serves, but not as many requests as it was to.
    TooLow,
    /// It cannot serve.
    Fatal,
}

impl Finding {
    pub fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, found: found.into(), requests: None, verdict: Verdict::Good, advice: None }
    }

    /// With the requests that it is enough for.
    fn for_requests(self, requests: u64) -> Self {
        Self { requests: Some(requests), ..self }
    }

    pub fn but(self, verdict: Verdict, advice: impl Into<String>) -> Self {
        Self { verdict, advice: Some(advice.into()), ..self }
    }

    /// The same, but for what is wrong if something is.
    fn but_if(self, is_so: bool, verdict: Verdict, advice: impl FnOnce() -> String) -> Self {
        if is_so { self.but(verdict, advice()) } else { self }
    }
}

/// The number that a file has in it, as those of /proc and of cgroups do.
fn number<T: FromStr>(path: impl AsRef<std::path::Path>) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A limit as people write it.
fn shown_limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn shown_bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}
