//! Directories that belong to one user alone, so that what is read from them is what this user wrote.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Makes a directory of this user's own, with those above it, unless it is there. Fails as [`check_own_directory`] does.
pub fn make_own_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    check_own_directory(directory)
}

/// Fails if there is no directory, or if another user may write there.
pub fn check_own_directory(directory: &Path) -> io::Result<()> {
    check_directory_of(directory, rustix::process::geteuid().as_raw())
}

/// Fails if there is no directory, or if any but this user may write there.
pub(crate) fn check_directory_of(directory: &Path, uid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    match distrust(&metadata, uid) {
        Some(reason) => {
            Err(io::Error::other(format!("it {reason}; only its user may be able to write there")))
        }
        None => Ok(()),
    }
}

/// Why a file or directory may have been written by another than this user.
pub(crate) fn distrust(metadata: &Metadata, uid: u32) -> Option<&'static str> {
    if metadata.uid() != uid {
        Some("belongs to another user")
    } else if metadata.mode() & 0o022 != 0 {
        Some("can be written by others")
    } else {
        None
    }
}
