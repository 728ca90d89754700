//! What helper processes log, and where to. They are started with it, and told of changes while they run.

use std::io;
use std::os::fd::OwnedFd;

use crate::{concurrency, helper_process};

/// Has helpers that run log by another filter, in the words of whoever [follows](follow_filter) it there; of the processes that
/// serve requests, also those that have begun.
pub fn set_filter(filter: &str) -> io::Result<()> {
    helper_process::log_filter::set(filter)
}

/// Has this process, if it becomes a helper, take over the filters that its host sets: `apply` is given each. To be called
/// before [`become_helper_process_if_asked`](crate::become_helper_process_if_asked).
pub fn follow_filter(apply: impl Fn(&str) + Send + Sync + 'static) {
    helper_process::log_filter::follow_by(Box::new(apply));
}

/// What helpers have as their standard error: those started from now on, and those that fork for requests, with what they
/// fork from now on. Without, it is this process's.
pub fn set_output(output: Option<OwnedFd>) {
    helper_process::set_stderr(output);
    concurrency::renew_stderr();
}
