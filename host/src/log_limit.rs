//! Keeps what outsiders can bring about at will from flooding the log.

use std::time::{Duration, Instant};

/// The same trouble is not logged again for so long.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Lets a message through once in a while.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    last: Option<Instant>,
    unsaid: u64,
}

impl LogLimit {
    /// Logs, unless it did so lately. Is told how many times it did not since.
    pub(crate) fn run(&mut self, log: impl FnOnce(u64)) {
        if self.last.is_some_and(|last| last.elapsed() < LOG_EVERY) {
            self.unsaid += 1;
            return;
        }
        self.last = Some(Instant::now());
        log(std::mem::take(&mut self.unsaid));
    }
}
