//! Errors: the author's to mend, so each says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::{Kind, Language};

/// Why a project could not be made or built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A new project's folder is there already.
    #[error("{} exists already; choose another name, or remove it", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A name that package managers would refuse.
    #[error(
        "{name:?} is no name for a project: begin with a lower-case letter, and go on with those, digits, - and _"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A language that has no template of this kind.
    #[error("there is no template of kind {kind} in {language}; choose one of {others}")]
    NoTemplate {
        /// The language.
        language: Language,
        /// The kind.
        kind: Kind,
        /// The languages that have it.
        others: String,
    },
    /// A folder that is no project.
    #[error(
        "{} is no handler project: it has no Cargo.toml, no package.json and no Makefile with sources; `plugsock new` makes one",
        folder.display()
    )]
    NoProject {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder whose name cannot be in a list of folders.
    #[error("{} cannot be on the PATH; rename it without a colon", folder.display())]
    Path {
        /// The folder.
        folder: PathBuf,
    },
    /// A program that the build calls is missing.
    #[error("{program} is not installed, or not on the PATH; {remedy}")]
    NoTool {
        /// The program.
        program: &'static str,
        /// How to get it.
        remedy: &'static str,
    },
    /// A program that the build calls cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A build failed; its tools said why.
    #[error("{program} failed ({status}); what it said is above")]
    Failed {
        /// The program that ran the build.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A build went well and made no component.
    #[error("the build made no component: there is no {}", path.display())]
    NoComponent {
        /// Where it should be.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Error::Read { path, source }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Error::Write { path, source }
    }
}
