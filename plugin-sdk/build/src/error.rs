//! What can go wrong, in words for whoever runs the build.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::TARGET;

/// Why no components were built.
pub enum Error {
    /// A variable that cargo sets for build scripts is missing.
    NotABuildScript {
        /// The missing variable.
        variable: &'static str,
    },
    /// A program could not be started.
    Start {
        /// The command line.
        command: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// A program ran and failed.
    Failed {
        /// The command line.
        command: String,
        /// What the program wrote to standard error.
        stderr: String,
    },
    /// The compiler has no standard library for [`TARGET`], and `rustup` could not bring it.
    NoTarget {
        /// What became of `rustup target add`.
        source: Box<Error>,
    },
    /// A file or directory could not be read.
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why it could not be read.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` at a place that reads `path`.
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Error {
        |source| Error::Read { path: path.to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotABuildScript { variable } => {
                write!(f, "{variable} is not set: call this from a build script")
            }
            Error::Start { command, source } => write!(f, "cannot start `{command}`: {source}"),
            Error::Failed { command, stderr } => write!(f, "`{command}` failed:\n{stderr}"),
            Error::NoTarget { source } => write!(
                f,
                "the Rust target {TARGET} is not installed; run `rustup target add {TARGET}`, \
                 or install your distribution's standard library for it\n{source}"
            ),
            Error::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
        }
    }
}

/// The same words, since a build script that returns an error from `main` prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
