//! Files that are whole or not there at all: written beside, and then renamed.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use tempfile::NamedTempFile;

/// How the name of a file begins that is still being written; its writer's process id follows.
const PARTIAL: &str = "partial-";

/// A file to write to that its user alone may read, gone by itself unless it is renamed. Fails if the directory is
/// read-only.
pub(super) fn partial_file(directory: &Path) -> io::Result<NamedTempFile> {
    let prefix = format!("{PARTIAL}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempfile_in(directory)
}

/// Removes what a host that was killed left half-written.
pub(super) fn remove_abandoned(directory: &Path) -> io::Result<()> {
    // By their names alone: to look at thousands of entries takes longer than the start otherwise does.
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let writer = name.strip_prefix(PARTIAL).and_then(|rest| rest.split('-').next());
        let writer = writer.and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        if writer.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            // Another host may be at it, too.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
