//! Whether a file is being written, as the kernel knows it.

#![allow(unsafe_code, reason = "no crate offers what it asks the kernel")]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{self, c_int};
use rustix::io::Errno;

/// As `<fcntl.h>` has it on all architectures that this runs on; the crate has no name for it.
const F_SETSIG: c_int = 10;

/// Whether somebody has the file open for writing. Where the kernel does not say, as on a network's file
/// system, nobody has.
pub fn has_writer(file: &Path) -> bool {
    // What is no file any more is not waited for.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(file);
    let Ok(file) = opened else { return false };
    let descriptor = file.as_raw_fd();
    // A read lease is granted only while nobody has the file open for writing. The signal that says that
    // somebody wants to must be one that does nothing: the default ends the process.
    let granted = fcntl(descriptor, F_SETSIG, libc::SIGURG)
        .and_then(|()| fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK));
    match granted {
        // It ends with the descriptor.
        Ok(()) => false,
        Err(error) => error == Errno::AGAIN,
    }
}

fn fcntl(descriptor: RawFd, operation: c_int, argument: c_int) -> Result<(), Errno> {
    // SAFETY: both operations take an integer and leave the process's memory alone.
    match unsafe { libc::fcntl(descriptor, operation, argument) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        _ => Ok(()),
    }
}
