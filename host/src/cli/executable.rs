//! Where this program lies, for whoever is to start what lies there later.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The path by which this program was started, links in it and all: they may lead to another release later. Where
/// its arguments do not say, the path to which it was resolved then. To be called before the working directory
/// changes.
pub fn path() -> io::Result<PathBuf> {
    let resolved = std::env::current_exe()?;
    let running = std::fs::metadata("/proc/self/exe")?;
    let named = std::env::args_os().next().map(PathBuf::from);
    let found = named.and_then(|name| candidates(&name).into_iter().find(|path| is_file(path, &running)));
    Ok(found.unwrap_or(resolved))
}

/// What a shell may have found under this name.
fn candidates(name: &Path) -> Vec<PathBuf> {
    let absolute = |path: PathBuf| std::path::absolute(path).ok();
    if name.as_os_str().as_bytes().contains(&b'/') {
        return absolute(name.to_owned()).into_iter().collect();
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).filter_map(|directory| absolute(directory.join(name))).collect()
}

/// Anybody can give a program any name.
fn is_file(path: &Path, running: &Metadata) -> bool {
    std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino()))
}
