//! Where components come from.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a handler was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, by its absolute path.
    File(PathBuf),
    /// A registry, by the reference that leads to this very component, whatever becomes of its tag.
    Registry(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Registry(reference) => f.write_str(reference),
        }
    }
}

impl Origin {
    /// For a process that takes over: the file's path, in the system's own bytes, or else the reference.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::File(path) => path.as_os_str().as_bytes().to_owned(),
            Self::Registry(reference) => reference.clone().into_bytes(),
        }
    }

    /// What [`to_bytes`](Self::to_bytes) wrote: only a path is absolute.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(b'/') => Self::File(Path::new(OsStr::from_bytes(bytes)).to_owned()),
            _ => Self::Registry(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

/// A component that was fetched from a registry, with what is there to vouch for it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it is called.
    pub name: String,
    /// The reference that leads to this very component.
    pub reference: String,
    /// The component itself.
    pub bytes: Vec<u8>,
    /// What the registry has of minisign's signatures of it.
    pub signatures: Vec<String>,
}
