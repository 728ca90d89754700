//! Where this program lies, for whoever is to start what lies there later.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Tells a process that takes over where the first one was started from.
const VARIABLE: &str = "PLUGSOCK_EXECUTABLE";

/// What an upgrade starts.
#[derive(Clone, Debug)]
pub struct Executable {
    pub path: PathBuf,
    /// Whether it was what lies there that was started.
    pub is_running: bool,
}

impl Executable {
    /// What a process that takes over is told.
    pub fn variable(&self) -> (&'static str, &Path) {
        (VARIABLE, &self.path)
    }
}

/// The path by which this program was started, links in it and all: they may lead to another release later. Where
/// its arguments do not say, the path to which it was resolved then. A successor has that of the process before it, and may
/// itself lie elsewhere. To be called before the working directory changes.
pub fn find(is_successor: bool) -> io::Result<Executable> {
    let running = std::fs::metadata("/proc/self/exe")?;
    if let Some(path) = is_successor.then(|| std::env::var_os(VARIABLE)).flatten().map(PathBuf::from) {
        return Ok(Executable { is_running: is_file(&path, &running), path });
    }
    let resolved = std::env::current_exe()?;
    let named = std::env::args_os().next().map(PathBuf::from);
    let found = named.and_then(|name| candidates(&name).into_iter().find(|path| is_file(path, &running)));
    Ok(Executable { path: found.unwrap_or(resolved), is_running: true })
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
