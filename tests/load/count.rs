//! What came of the requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, PoisonError};

pub struct Count {
    pub is_over: AtomicBool,
    every: u64,
    requests: AtomicU64,
    lines: AtomicU64,
    failed: AtomicU64,
    mixed: AtomicU64,
    /// Requests by the version that answered them.
    versions: Mutex<BTreeMap<String, u64>>,
}

/// Why a request was not served as it should be.
pub enum Failure {
    /// It was refused or cut, or the answer is another one's.
    Failed(String),
    /// Two versions answered it.
    Mixed(String),
}

impl<E: Into<std::io::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into().to_string())
    }
}

impl Count {
    pub fn new(every: u64) -> Self {
        Self {
            is_over: AtomicBool::new(false),
            every,
            requests: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            mixed: AtomicU64::new(0),
            versions: Mutex::default(),
        }
    }

    pub fn line(&self) {
        self.lines.fetch_add(1, Relaxed);
    }

    /// Counts a request by the version that answered it, or by what went wrong.
    pub fn request(&self, served: Result<String, Failure>) {
        match served {
            Ok(version) => {
                *self.versions.lock().unwrap_or_else(PoisonError::into_inner).entry(version).or_default() +=
                    1;
                let requests = self.requests.fetch_add(1, SeqCst) + 1;
                if requests.is_multiple_of(self.every) {
                    println!("progress {requests}");
                }
            }
            Err(Failure::Failed(what)) => {
                eprintln!("failed: {what}");
                self.failed.fetch_add(1, SeqCst);
            }
            Err(Failure::Mixed(what)) => {
                eprintln!("mixed: {what}");
                self.mixed.fetch_add(1, SeqCst);
            }
        }
    }
}

/// One line of `NAME=NUMBER` pairs.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, lines, failed, mixed, .. } = self;
        let [requests, lines, failed, mixed] =
            [requests, lines, failed, mixed].map(|count| count.load(SeqCst));
        write!(f, "requests={requests} lines={lines} failed={failed} mixed={mixed}")?;
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.iter().try_for_each(|(version, count)| write!(f, " version-{version}={count}"))
    }
}
