//! What a host keeps of its fleet, so that it can start without NATS: the last records, and their components, by digest.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plugsock::{Digest, Fetched, shown};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::records::{Desired, Rollout};

/// As many components as are kept for all hosts that share the directory.
const COMPONENTS_MAX: usize = 32;

/// What was last known of a slot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    pub desired: Option<Desired>,
    pub rollout: Option<Rollout>,
}

/// A directory of the user's own; what is read from it is checked as what comes from elsewhere is.
#[derive(Clone, Debug)]
pub struct Kept {
    directory: Option<PathBuf>,
    host: String,
}

impl Kept {
    /// Below the cache, if there is one.
    pub fn new(cache: Option<&Path>, group: &str, host: &str) -> Self {
        let directory = cache.map(|cache| cache.join("fleet"));
        if let Some(directory) = &directory
            && let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(directory)
        {
            tracing::warn!("{} cannot be made, so nothing is kept of the fleet: {error}", shown(directory));
        }
        Self { directory, host: format!("{group}.{host}") }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(name))
    }

    fn record(&self, slot: &str) -> Option<PathBuf> {
        self.path(&format!("{}.{slot}.json", self.host))
    }

    fn component(&self, digest: Digest) -> Option<PathBuf> {
        self.path(&format!("{}.wasm", digest.to_string().replace(':', "-")))
    }

    /// What was known last.
    pub fn known(&self, slot: &str) -> Known {
        let read = || serde_json::from_slice(&fs::read(self.record(slot)?).ok()?).ok();
        read().unwrap_or_default()
    }

    pub fn keep_known(&self, slot: &str, known: &Known) {
        if let (Some(path), Ok(bytes)) = (self.record(slot), serde_json::to_vec(known)) {
            self.write(&path, &bytes);
        }
    }

    /// Where a component's signatures are.
    fn signatures(&self, digest: Digest) -> Option<PathBuf> {
        self.component(digest).map(|path| path.with_extension("signatures"))
    }

    /// A component's bytes, if they are here and what they should be, and its signatures.
    pub fn component_of(&self, digest: Digest, max: u64) -> Option<(Vec<u8>, Vec<String>)> {
        let path = self.component(digest)?;
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length <= max).then(|| fs::read(&path).ok()).flatten()?;
        // For whoever removes what was used longest ago.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        let signatures =
            self.signatures(digest).and_then(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
        (Digest::of(&bytes) == digest).then(|| (bytes, signatures.unwrap_or_default()))
    }

    pub fn keep_component(&self, digest: Digest, fetched: &Fetched) {
        let paths =
            (self.component(digest), self.signatures(digest), serde_json::to_vec(&fetched.signatures));
        if let (Some(component), Some(signatures), Ok(text)) = paths {
            self.write(&signatures, &text);
            self.write(&component, &fetched.bytes);
            self.evict();
        }
    }

    /// Whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) {
        let write = || {
            let directory = path.parent().unwrap_or(Path::new("."));
            let mut file = NamedTempFile::with_prefix_in("partial-", directory)?;
            file.write_all(bytes)?;
            file.persist(path).map_err(std::io::Error::from)
        };
        if let Err(error) = write() {
            tracing::warn!("cannot keep {}: {error}", shown(path));
        }
    }

    fn evict(&self) {
        let entries = self.directory.iter().flat_map(fs::read_dir).flatten().flatten();
        let components =
            entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "wasm"));
        let mut components: Vec<_> = components
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        components.sort();
        let surplus = components.len().saturating_sub(COMPONENTS_MAX);
        for (_, path) in components.iter().take(surplus) {
            // Another host may be at it, too.
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(path.with_extension("signatures"));
        }
    }
}
