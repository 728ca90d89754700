//! What is asked of a slot, and what comes of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Probe, RollbackPolicy, Share};
use crate::error::HandlerError;
use crate::sandbox::{Digest, Handler, Sandbox};

/// How a slot swaps.
#[derive(Clone, Debug, Default)]
pub struct SlotOptions {
    /// What the slot is called; by default as its first handler, without the file's extension.
    pub name: Option<String>,
    /// What every version must serve before clients get it.
    pub probe: Option<Probe>,
    /// When a new version is rolled back by itself.
    pub rollback_on: Option<RollbackPolicy>,
    /// How long requests may go on after their version was replaced; the rest are cut off.
    pub max_drain: Option<Duration>,
    /// Whether handlers learn that their version was replaced.
    pub drain_signal: bool,
}

/// Where a new version comes from.
#[derive(Debug)]
pub enum Source {
    /// A component's file, loaded by the sandbox that the slot's handler belongs to.
    File(PathBuf),
    /// A handler that is loaded already.
    Handler(Handler),
    /// Whatever this loads when it is the swap's turn.
    Loader(Loader),
}

/// Loads a handler into the sandbox of the slot's; where there is a digest, the component with that alone.
pub struct Loader(Box<Load>);

type Load = dyn FnOnce(&Sandbox, Option<Digest>) -> Result<Handler, HandlerError> + Send;

impl Loader {
    /// What loads by this.
    pub fn new(
        load: impl FnOnce(&Sandbox, Option<Digest>) -> Result<Handler, HandlerError> + Send + 'static,
    ) -> Self {
        Self(Box::new(load))
    }

    pub(super) fn load(self, sandbox: &Sandbox, digest: Option<Digest>) -> Result<Handler, HandlerError> {
        (self.0)(sandbox, digest)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loader")
    }
}

impl From<Loader> for Source {
    fn from(loader: Loader) -> Self {
        Self::Loader(loader)
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<Handler> for Source {
    fn from(handler: Handler) -> Self {
        Self::Handler(handler)
    }
}

/// How one swap is done.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Take the component with this digest alone, also where the sandbox is told another's.
    pub digest: Option<Digest>,
    /// Give the new version this share of new requests, until it is promoted or aborted.
    pub canary: Option<Share>,
    /// Take a component that was rolled back before.
    pub force: bool,
    /// What it must serve before clients get it, besides what every version of the slot must.
    pub probe: Option<Probe>,
}

/// What a swap came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// New requests get the new version, or their share of it.
    Published {
        /// Its generation.
        generation: u64,
        /// Its component's SHA-256, as `sha256:` and 64 hexadecimal digits.
        digest: String,
    },
    /// The component serves already.
    Unchanged {
        /// The generation that serves.
        generation: u64,
        /// Its component's SHA-256.
        digest: String,
    },
}
