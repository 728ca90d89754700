//! Where a request is served: one file a strategy. Each overrides exactly what a mix-in of `socketserver`
//! does: where `process_request` runs. They know of a request
//! what [`Job`] lets them do with it, and neither listeners nor the sandbox.

mod forking;
mod pool;
mod sync;
mod tasks;
mod threading;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

pub(crate) use forking::{ForkServers, Forking, renew_stderr};

use crate::job::Job;
use crate::request::Waits;
use crate::sandbox::Drain;
use crate::server_info::ServerInfo;

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
    /// A process for each request: `ForkingMixIn`. The program's `main` must begin with
    /// [`become_helper_process_if_asked`](crate::become_helper_process_if_asked).
    Forking {
        /// How many requests may be served at once; more wait in the listen queue (40).
        max_children: usize,
        /// Whether `server_close` waits for requests that are still served (true).
        block_on_close: bool,
        /// Arguments with which the program's executable calls `become_helper_process_if_asked` (none).
        arguments: Vec<OsString>,
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
    pub const NAMES: [&str; 5] = ["sync", "threading", "forking", "pool", "async"];

    /// The strategy's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Threading { .. } => "threading",
            Self::Forking { .. } => "forking",
            Self::Pool { .. } => "pool",
            Self::Async { .. } => "async",
        }
    }

    /// How many requests it can hold, served or waiting; more stay in the listen queue.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Sync => 1,
            Self::Forking { max_children, .. } => *max_children,
            Self::Pool { workers, queue } => workers + queue,
            Self::Threading { .. } | Self::Async { .. } => usize::MAX,
        }
    }

    /// Connections that may be kept for further requests: with more of them somebody else may have to wait.
    pub(crate) fn places(&self) -> usize {
        match self {
            Self::Pool { workers, .. } => *workers,
            // Who comes when it is full is not even looked at.
            _ => self.capacity().saturating_sub(1),
        }
    }

    /// Whether a request has a thread to itself.
    pub(crate) fn waits(&self) -> Waits {
        match self {
            Self::Sync | Self::Threading { .. } | Self::Forking { .. } | Self::Pool { .. } => Waits::Thread,
            Self::Async { .. } => Waits::Task,
        }
    }

    /// Whether the threads that serve are others of this process, each with one request at a time.
    pub(crate) fn has_threads(&self) -> bool {
        matches!(self, Self::Threading { .. } | Self::Pool { .. })
    }

    /// Whether `server_close` waits for open requests.
    pub fn waits_on_close(&self) -> bool {
        match self {
            Self::Threading { daemon_threads, block_on_close } => *block_on_close && !daemon_threads,
            Self::Forking { block_on_close, .. } => *block_on_close,
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
            "forking" => Ok(Self::Forking { max_children: 40, block_on_close: true, arguments: Vec::new() }),
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
    Forking(Arc<Forking>),
    Pool(pool::Pool),
    Tasks(tasks::Tasks),
}

impl Strategy {
    /// Starts the threads that it keeps. `info`, `closing` and a datagram server's socket are for processes that serve.
    pub(crate) fn start(
        concurrency: &Concurrency,
        info: &Arc<ServerInfo>,
        closing: &Arc<Drain>,
        datagram_socket: impl FnOnce() -> io::Result<Option<OwnedFd>>,
    ) -> io::Result<Self> {
        Ok(match *concurrency {
            Concurrency::Sync => Self::Sync,
            Concurrency::Threading { .. } => Self::Threading(threading::Threading::default()),
            Concurrency::Forking { ref arguments, .. } => {
                let (info, arguments, closing) = (info.clone(), arguments.clone(), closing.clone());
                Self::Forking(Arc::new(Forking::start(info, arguments, closing, datagram_socket()?)?))
            }
            Concurrency::Pool { workers, queue } => Self::Pool(pool::Pool::start(workers, queue)?),
            Concurrency::Async { workers } => Self::Tasks(tasks::Tasks::start(workers)?),
        })
    }

    /// `socketserver`'s `process_request`: returns as soon as the next request can be taken.
    pub(crate) fn process_request(&self, job: Job) {
        match self {
            Self::Sync => sync::process_request(job),
            Self::Threading(threading) => threading.process_request(job),
            Self::Forking(forking) => forking.process_request(job),
            Self::Pool(pool) => pool.process_request(job),
            Self::Tasks(tasks) => tasks.process_request(job),
        }
    }

    /// What each version of the handler has to be made ready for.
    pub(crate) fn forking(&self) -> Option<&Arc<Forking>> {
        match self {
            Self::Forking(forking) => Some(forking),
            _ => None,
        }
    }
}
