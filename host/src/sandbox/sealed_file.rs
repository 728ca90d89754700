//! Files without a name, in memory, that nobody can change any more: how code and components pass from one
//! process to another.

use std::fs::File;
use std::io::{self, Read, Seek, Take, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// An empty file without a name.
pub(super) fn memfd(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

/// A file that has these bytes for ever.
pub(crate) fn sealed_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    // Who writes beyond this limit is sent a signal that would end the process.
    if getrlimit(Resource::Fsize).current.is_some_and(|max| bytes.len() as u64 > max) {
        return Err(explained(Errno::FBIG.into()));
    }
    let mut file = File::from(memfd(name)?);
    file.write_all(bytes).map_err(explained)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(file.into())
}

/// Why something could not be written, with what to do where a file may not be so large; one in memory is a file, too.
pub(super) fn explained(error: io::Error) -> io::Error {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if Errno::from_io_error(&error) == Some(Errno::FBIG) => {
            io::Error::other(format!("a file may have no more than {limit} bytes here: raise `ulimit -f`"))
        }
        _ => error,
    }
}

/// What [`sealed_file`] was given, to be read, if it is no more than `max` bytes.
pub(super) fn open_sealed(file: OwnedFd, max: u64) -> io::Result<Take<File>> {
    let mut file = File::from(file);
    let size = file.metadata()?.len();
    if size > max {
        return Err(io::Error::other(format!("{size} bytes are more than the {max} allowed")));
    }
    // Its writer left the descriptor at its end.
    file.rewind()?;
    Ok(file.take(size))
}

/// What [`sealed_file`] was given, if it is no more than `max` bytes.
pub(crate) fn read_sealed(file: OwnedFd, max: u64) -> io::Result<Vec<u8>> {
    let mut file = open_sealed(file, max)?;
    let mut bytes = Vec::with_capacity(file.limit() as usize);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
