//! Where a request is served: one file a strategy. Each overrides exactly what a mix-in of `socketserver`
//! does: where `process_request` runs. None knows listeners or the sandbox.

mod pool;
mod sync;
mod tasks;
mod threading;

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::request::Waits;
use crate::server::Job;

/// Where requests are served; the strategies of `socketserver` and two of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// One request at a time, on the thread that accepts.
    Sync,
    /// A thread for each request: `ThreadingMixIn`.
    Threading {
        /// Whether `server_close` leaves threads that still serve to themselves (false).
        daemon_threads: bool,
        /// Whether `server_close` waits for requests that are still served (true).
        block_on_close: bool,
    },
    /// A fixed set of worker threads behind a bounded queue.
    Pool {
        /// How many threads serve; by default four for each core.
        workers: usize,
        /// How many accepted requests may wait for a worker; by default as many as there are workers.
        queue: usize,
    },
    /// A tokio task for each request, many to a thread.
    Async {
        /// How many threads serve; by default one for each core.
        workers: usize,
    },
}

impl Concurrency {
    /// The strategies' names, as [`FromStr`] takes them.
    pub const NAMES: [&str; 4] = ["sync", "threading", "pool", "async"];

    /// The strategy's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Threading { .. } => "threading",
            Self::Pool { .. } => "pool",
            Self::Async { .. } => "async",
        }
    }

    /// How many requests it can hold, served or waiting; more stay in the listen queue.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Sync => 1,
            Self::Pool { workers, queue } => workers + queue,
            Self::Threading { .. } | Self::Async { .. } => usize::MAX,
        }
    }

    /// Whether a request has a thread to itself.
    pub(crate) fn waits(&self) -> Waits {
        match self {
            Self::Sync | Self::Threading { .. } | Self::Pool { .. } => Waits::Thread,
            Self::Async { .. } => Waits::Task,
        }
    }

    /// Whether `server_close` waits for open requests.
    pub(crate) fn waits_on_close(&self) -> bool {
        match self {
            Self::Threading { daemon_threads, block_on_close } => *block_on_close && !daemon_threads,
            Self::Sync | Self::Pool { .. } | Self::Async { .. } => true,
        }
    }

    /// The same strategy with this many workers, where it has a fixed number of them.
    pub fn with_workers(self, count: usize) -> Self {
        match self {
            Self::Pool { .. } => Self::Pool { workers: count, queue: count },
            Self::Async { .. } => Self::Async { workers: count },
            other => other,
        }
    }
}

/// `threading`, as `ThreadingMixIn` does it.
impl Default for Concurrency {
    fn default() -> Self {
        Self::Threading { daemon_threads: false, block_on_close: true }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Concurrency {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        match name {
            "sync" => Ok(Self::Sync),
            "threading" => Ok(Self::default()),
            "pool" => Ok(Self::Pool { workers: 4 * cores, queue: 4 * cores }),
            "async" => Ok(Self::Async { workers: cores }),
            other => Err(format!("unknown strategy '{other}': use {}", Self::NAMES.join(", "))),
        }
    }
}

/// A strategy at work for one server.
#[derive(Debug)]
pub(crate) enum Strategy {
    Sync,
    Threading(threading::Threading),
    Pool(pool::Pool),
    Tasks(tasks::Tasks),
}

impl Strategy {
    /// Starts the threads that it keeps.
    pub(crate) fn start(concurrency: &Concurrency) -> io::Result<Self> {
        Ok(match *concurrency {
            Concurrency::Sync => Self::Sync,
            Concurrency::Threading { .. } => Self::Threading(threading::Threading::new()),
            Concurrency::Pool { workers, queue } => Self::Pool(pool::Pool::start(workers, queue)?),
            Concurrency::Async { workers } => Self::Tasks(tasks::Tasks::start(workers)?),
        })
    }

    /// `socketserver`'s `process_request`: returns as soon as the next request can be taken.
    pub(crate) fn process_request(&self, job: Job) {
        match self {
            Self::Sync => sync::process_request(job),
            Self::Threading(threading) => threading.process_request(job),
            Self::Pool(pool) => pool.process_request(job),
            Self::Tasks(tasks) => tasks.process_request(job),
        }
    }
}
