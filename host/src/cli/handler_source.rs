//! What a handler is loaded from: a file, a registry, or this program itself.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use plugsock::{Digest, Handler, HandlerError, Inspection, Loader, Sandbox, Source, shown};

use super::registry::{OciReference, Registry, SCHEME};

/// What a handler is loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerSource {
    /// The built-in echo.
    Echo,
    /// A component's file.
    File(PathBuf),
    /// An artifact in a registry.
    Oci(OciReference),
}

impl fmt::Display for HandlerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("echo"),
            Self::File(path) => f.write_str(&shown(path)),
            Self::Oci(reference) => reference.fmt(f),
        }
    }
}

impl HandlerSource {
    /// What begins with `oci://` is in a registry, anything else a file.
    pub fn parse(text: OsString) -> Result<Self, String> {
        match text.to_str().filter(|text| text.starts_with(SCHEME)) {
            Some(reference) => reference.parse().map(Self::Oci),
            None => Ok(Self::File(text.into())),
        }
    }

    /// Of a command line.
    pub fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::parse)
    }

    /// What a slot for it is called: the file's name without its extension, or the last part of the repository's.
    pub fn stem(&self) -> String {
        match self {
            Self::Echo => "echo".to_owned(),
            Self::File(path) => shown(Path::new(path.file_stem().unwrap_or_default())),
            Self::Oci(reference) => reference.name().to_owned(),
        }
    }

    /// Loads it; where there is a digest, the component with that alone.
    pub fn load(
        &self,
        sandbox: &Sandbox,
        registry: &Registry,
        digest: Option<Digest>,
    ) -> Result<Handler, HandlerError> {
        match (self, digest) {
            (Self::Echo, _) => sandbox.echo(),
            (Self::File(path), None) => sandbox.load(path),
            (Self::File(path), Some(digest)) => sandbox.load_pinned(path, digest),
            (Self::Oci(reference), digest) => {
                let fetched = registry.fetch(reference, sandbox.trust())?;
                sandbox.load_fetched(&fetched, digest)
            }
        }
    }

    /// Loads what nothing serves in the place of yet: where its registry does not answer, what was fetched last.
    pub fn load_first(&self, sandbox: &Sandbox, registry: &Registry) -> Result<Handler, HandlerError> {
        match self {
            Self::Oci(reference) => {
                sandbox.load_fetched(&registry.fetch_or_kept(reference, sandbox.trust())?, None)
            }
            _ => self.load(sandbox, registry, None),
        }
    }

    /// Says which it is, what it is, and whether it can be served.
    pub fn inspect(
        &self,
        sandbox: &Sandbox,
        registry: &Registry,
    ) -> Result<(String, Inspection), HandlerError> {
        match self {
            Self::Echo => Ok((self.to_string(), sandbox.inspect_echo())),
            Self::File(path) => Ok((self.to_string(), sandbox.inspect(path)?)),
            Self::Oci(reference) => {
                let fetched = registry.fetch(reference, sandbox.trust())?;
                Ok((fetched.reference.clone(), sandbox.inspect_fetched(&fetched)))
            }
        }
    }

    /// For a swap, which loads it when its turn has come.
    pub fn for_swap(&self, registry: &Registry) -> Source {
        let (source, registry) = (self.clone(), registry.clone());
        Loader::new(move |sandbox, digest| source.load(sandbox, &registry, digest)).into()
    }
}
