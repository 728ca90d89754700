//! What a host keeps of what it has fetched, so that it can start while nobody answers: components by their digests, and notes
//! that say which they are.

use std::fs::{self, File, Permissions};
use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plugsock::{Digest, Fetched, check_own_directory, make_own_directory, shown};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

/// As many components are kept for all hosts that share the directory, and as many notes.
const COMPONENTS_MAX: usize = 32;
const NOTES_MAX: usize = 1024;
/// One that serves, one that is to come, and a few to go back to.
const PROGRAMS_MAX: usize = 4;

/// A directory of the user's own; what is read from it is checked as what comes from elsewhere is.
#[derive(Clone, Debug)]
pub struct Kept {
    directory: PathBuf,
}

impl Kept {
    /// Below the cache; it is made for the first that is kept.
    pub fn below(cache: &Path) -> Self {
        Self { directory: cache.join("fetched") }
    }

    /// A component's bytes, if they are here and what they should be, and its signatures.
    pub fn component(&self, digest: Digest, max: u64) -> Option<(Vec<u8>, Vec<String>)> {
        check_own_directory(&self.directory).ok()?;
        let path = self.component_path(digest);
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length <= max).then(|| fs::read(&path).ok()).flatten()?;
        // For whoever removes what was used longest ago.
        let file = File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        let signatures = fs::read(path.with_extension("signatures")).ok();
        let signatures = signatures.and_then(|text| serde_json::from_slice(&text).ok());
        (Digest::of(&bytes) == digest).then(|| (bytes, signatures.unwrap_or_default()))
    }

    pub fn keep_component(&self, digest: Digest, fetched: &Fetched) {
        let path = self.component_path(digest);
        self.write_json(&path.with_extension("signatures"), &fetched.signatures);
        self.write(&path, &fetched.bytes);
        for path in self.surplus("wasm", COMPONENTS_MAX) {
            // Another host may be at it, too.
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(path.with_extension("signatures"));
        }
    }

    /// The bytes of a program that is here.
    pub fn program(&self, digest: Digest, max: u64) -> Option<Vec<u8>> {
        check_own_directory(&self.directory).ok()?;
        let path = self.program_path(digest);
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length <= max).then(|| fs::read(&path).ok()).flatten()?;
        (Digest::of(&bytes) == digest).then_some(bytes)
    }

    /// Puts a program where it can be run, if it does not lie there; where that is.
    pub fn keep_program(&self, digest: Digest, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.program_path(digest);
        if self.program(digest, bytes.len() as u64).is_none() {
            self.try_to_write(&path, bytes, 0o700)?;
        }
        for path in self.surplus("program", PROGRAMS_MAX) {
            let _ = fs::remove_file(path);
        }
        Ok(path)
    }

    fn program_path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{}.program", digest.to_string().replace(':', "-")))
    }

    /// What was noted last under this name.
    pub fn note<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        check_own_directory(&self.directory).ok()?;
        serde_json::from_slice(&fs::read(self.note_path(name)).ok()?).ok()
    }

    pub fn keep_note(&self, name: &str, note: &impl Serialize) {
        self.write_json(&self.note_path(name), note);
        for path in self.surplus("json", NOTES_MAX) {
            let _ = fs::remove_file(path);
        }
    }

    /// Keeps other processes that share the directory from being what this one is, until it ends or this is dropped; `None` where
    /// one is already, or nothing can be kept.
    pub fn claim(&self, name: &str) -> Option<File> {
        make_own_directory(&self.directory).ok()?;
        let path = self.note_path(name).with_extension("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
        file.try_lock().is_ok().then_some(file)
    }

    fn component_path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{}.wasm", digest.to_string().replace(':', "-")))
    }

    /// Whatever the name is, it is that of a file.
    fn note_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{}.json", Digest::of(name.as_bytes()).to_string().replace(':', "-")))
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.write(path, &bytes),
            Err(error) => tracing::warn!("cannot keep {}: {error}", shown(path)),
        }
    }

    /// Whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) {
        if let Err(error) = self.try_to_write(path, bytes, 0o600) {
            tracing::warn!("cannot keep {}: {error}", shown(path));
        }
    }

    fn try_to_write(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        make_own_directory(&self.directory)?;
        let mut file = NamedTempFile::with_prefix_in("partial-", &self.directory)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.persist(path).map_err(io::Error::from).map(drop)
    }

    /// The files of this kind that were used longest ago, if there are more than so many.
    fn surplus(&self, extension: &str, max: usize) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.path().extension().is_some_and(|its| its == extension));
        let mut files: Vec<_> =
            files.filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path()))).collect();
        files.sort();
        let surplus = files.len().saturating_sub(max);
        files.into_iter().take(surplus).map(|(_, path)| path).collect()
    }
}
