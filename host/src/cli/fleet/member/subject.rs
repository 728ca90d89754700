//! What the fleet may say another version of: a slot's handler, or the program itself.

use std::sync::Arc;

use plugsock::{Probe, SwapOptions};

use super::super::kept::Kept;
use super::super::records::Version;
use super::handler;
use super::job::Work;
use super::program::Program;
use crate::cli::registry::Registry;
use crate::cli::running::Plug;

#[derive(Clone)]
pub(super) enum Subject {
    Handler(Box<Plug>),
    Program(Arc<Program>),
}

/// The bytes of a version that are here already, and its signatures beside that of the record.
pub(super) type Brought = (Vec<u8>, Vec<String>);

/// A version that is to be taken.
pub(super) struct Taking {
    pub(super) generation: u64,
    pub(super) version: Version,
    /// Also if it was rolled back before.
    pub(super) is_forced: bool,
    /// What it must serve before.
    pub(super) probe: Option<Probe>,
}

/// Where versions are found and kept.
#[derive(Clone)]
pub(super) struct Places {
    pub(super) kept: Kept,
    pub(super) registry: Registry,
}

impl Subject {
    /// Which version it is now.
    pub(super) fn digest(&self) -> String {
        match self {
            Self::Handler(plug) => plug.slot.current().digest().to_owned(),
            Self::Program(program) => program.digest().to_string(),
        }
    }

    /// Whether that is what this host was started with.
    pub(super) fn is_own(&self) -> bool {
        match self {
            Self::Handler(plug) => !plug.held.is_set(),
            Self::Program(program) => program.is_own(),
        }
    }

    /// What serves is what is wanted: the fleet's word, or what this host was started with.
    pub(super) fn hold(&self, is_fleets: bool) {
        if let Self::Handler(plug) = self {
            plug.held.set(is_fleets);
        }
    }

    /// How many bytes a version may have, and what says so.
    pub(super) fn most(&self) -> (u64, &'static str) {
        match self {
            Self::Handler(plug) => (plug.sandbox.trust().max_size, "--max-component-size"),
            Self::Program(_) => (Program::MOST, "for a program"),
        }
    }

    /// A version that is here already.
    pub(super) fn brought(&self, places: &Places, version: &Version) -> Option<Brought> {
        match self {
            Self::Handler(_) => places.kept.component_of(version.digest, self.most().0),
            Self::Program(program) => Some((program.kept(version.digest)?, Vec::new())),
        }
    }

    /// Whether a version comes from where it says, and not from the fleet.
    pub(super) fn is_elsewhere(&self, version: &Version) -> bool {
        matches!(self, Self::Handler(_)) && version.source.is_some()
    }

    /// Goes back to what this host was started with.
    pub(super) fn back(self, registry: &Registry) -> Work {
        match self {
            Self::Handler(plug) => {
                let source = plug.planned.source.for_swap(registry);
                handler::swap(*plug, source, false, SwapOptions { force: true, ..SwapOptions::default() })
            }
            Self::Program(program) => Box::new(move || program.back()),
        }
    }

    pub(super) fn take(self, taking: Taking, brought: Option<Brought>, places: Places) -> Work {
        match self {
            Self::Handler(plug) => {
                let Taking { version, is_forced, probe, .. } = taking;
                let how = SwapOptions { force: is_forced, probe, ..SwapOptions::default() };
                handler::swap(*plug, handler::source(places, version, brought), true, how)
            }
            Self::Program(program) => {
                let bytes = brought.map(|(bytes, _)| bytes).unwrap_or_default();
                Box::new(move || program.take(taking.generation, &taking.version, &bytes))
            }
        }
    }
}
