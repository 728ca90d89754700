//! A host to which things happen that a test cannot do to a machine: its wall clock jumps, the system runs out of
//! threads, processes or files.

use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::{NamedTempFile, TempDir};

use super::{Host, plugsock};

/// What can happen, in the order of `struct faults` in `preload/faults.c`.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Seconds that the wall clock is ahead.
    ClockOffset,
    NoThreads,
    /// So many who try to fork are killed if it is negative.
    NoForks,
    NoFiles,
    /// Not a fault: how often a connection was asked for while there were no files.
    Accepts,
    /// Helper processes stop before they begin, until somebody lets them go on.
    StopHelpers,
    /// Somebody puts a link to `PATH.victim` in the place of a Unix socket's file as soon as it is bound.
    ReplacesSockets,
}

/// What happens to a host.
pub struct Faults {
    /// What is preloaded, and beside it the file that says what happens.
    _directory: TempDir,
    file: File,
}

impl Faults {
    /// Serves with nothing wrong yet; `None` where there is no C compiler to make it so.
    pub fn serve(args: &[&str]) -> Option<(Self, Host)> {
        let (faults, command) = Self::command()?;
        Some((faults, Host::serve_by(command, args)))
    }

    /// A `plugsock` to which things may happen from its start on.
    pub fn command() -> Option<(Self, Command)> {
        let library = library()?;
        let directory = TempDir::new().unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(directory.path().join("faults"))
            .unwrap();
        file.set_len(4096).unwrap();
        let linked = directory.path().join("libfaults.so");
        symlink(library, &linked).unwrap();
        let mut command = plugsock();
        command.env("LD_PRELOAD", linked);
        Some((Self { _directory: directory, file }, command))
    }

    pub fn set(&self, fault: Fault, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), 8 * fault as u64).unwrap();
    }

    pub fn get(&self, fault: Fault) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8 * fault as u64).unwrap();
        i64::from_ne_bytes(bytes)
    }
}

/// The library to preload, compiled once.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(compile).as_deref()
}

fn compile() -> Option<PathBuf> {
    if !super::is_installed("cc") {
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("preload/faults.c");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Whole or not at all, since another run of the tests may be at it.
    let partial = NamedTempFile::new_in(directory).unwrap().into_temp_path();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&partial).arg(source);
    assert!(compiler.status().unwrap().success(), "the library to preload does not compile");
    let library = directory.join("faults.so");
    partial.persist(&library).unwrap();
    Some(library)
}
