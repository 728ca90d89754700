//! Keeps compiled components, so that a component is compiled once and not at every start.
//!
//! A compiled component is native code: loading one that somebody else wrote would be running it. So an
//! entry is used only from a directory that belongs to this user alone, only if the file does too, and only
//! if its digest, which covers the entry's name, is right. Everything else is compiled anew.

use std::fs::{self, File, Metadata};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::digest::{Digest, hex};
use super::partial_file::{partial_file, remove_abandoned};
use super::preview1;
use super::sealed_file::explained;
use crate::error::shown;
use crate::own_directory::{distrust, make_own_directory};

/// The first bytes of an entry; the digit counts this file's own formats.
const MAGIC: &[u8; 8] = b"plugsok1";

const DIGEST_LEN: usize = 32;

/// Where compiled components are kept.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// A directory of the user's own; it is made if it does not exist.
    pub directory: PathBuf,
    /// How large all entries together may grow, in bytes; the ones used longest ago go first.
    pub max_size: u64,
}

impl CacheOptions {
    /// `plugsock` below the user's cache directory, at most 2 GiB; `None` for a user without a home.
    pub fn for_user() -> Option<Self> {
        use etcetera::BaseStrategy;
        let directory = etcetera::choose_base_strategy().ok()?.cache_dir().join("plugsock");
        Some(Self { directory, max_size: 2 << 30 })
    }
}

#[derive(Debug)]
pub(super) struct Cache(CacheOptions);

impl Cache {
    /// Fails if the directory cannot be made or is open to others.
    pub(super) fn open(options: CacheOptions) -> io::Result<Self> {
        let directory = &options.directory;
        make_own_directory(directory)?;
        partial_file(directory)?;
        remove_abandoned(directory)?;
        Ok(Self(options))
    }

    /// The compiled form of a component or module, if there is a trustworthy one for this engine.
    pub(super) fn load(&self, engine: &Engine, handler: Digest) -> Option<Vec<u8>> {
        let path = self.path(engine, handler);
        match self.read(&path) {
            Ok(code) => return Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("cache entry {} is ignored: {error}", shown(&path)),
        }
        None
    }

    /// Reads an entry, and believes it only after every check.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let no_symlink = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let mut file = File::options().read(true).custom_flags(no_symlink).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if let Some(reason) = distrust(&metadata, rustix::process::geteuid().as_raw()) {
            return Err(io::Error::other(format!("it {reason}")));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.read_to_end(&mut bytes)?;
        let code_at = MAGIC.len() + DIGEST_LEN;
        if bytes.len() < code_at || !bytes.starts_with(MAGIC) {
            return Err(io::Error::other("it is truncated or of another format"));
        }
        if bytes[MAGIC.len()..code_at] != entry_digest(path, &bytes[code_at..]) {
            return Err(io::Error::other("its digest is wrong"));
        }
        // Says when it was last used, for `evict`; a failure only makes it look older.
        let _ = file.set_modified(SystemTime::now());
        bytes.drain(..code_at);
        Ok(bytes)
    }

    /// Keeps a compiled component; a failure costs a compilation later and nothing else.
    pub(super) fn store(&self, engine: &Engine, code: &[u8], component: Digest) {
        let path = self.path(engine, component);
        if let Err(error) = self.write(&path, code).and_then(|()| self.evict(&path)) {
            tracing::warn!("cannot keep the compiled handler in {}: {error}", shown(&self.0.directory));
        }
    }

    /// Whole or not at all: written beside and renamed.
    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut file = partial_file(&self.0.directory)?;
        let content = [&MAGIC[..], &entry_digest(path, code), code];
        content.iter().try_for_each(|part| file.write_all(part)).map_err(explained)?;
        file.persist(path)?;
        Ok(())
    }

    /// Removes the entries that were used longest ago until the rest fits; never the one just written.
    fn evict(&self, keep: &Path) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|(_, metadata)| metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        let mut size: u64 = entries.iter().map(|(_, metadata)| metadata.len()).sum();
        for (path, metadata) in entries {
            if size <= self.0.max_size {
                break;
            }
            if path != keep {
                fs::remove_file(path)?;
                size -= metadata.len();
            }
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<(PathBuf, Metadata)>> {
        let entries = fs::read_dir(&self.0.directory)?;
        // An entry that another host has just removed is no error.
        let entries = entries.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
        // What else a host keeps here is in directories.
        Ok(entries.filter(|(_, metadata)| metadata.is_file()).collect())
    }

    /// Named by all that decides what the compiled code must be.
    fn path(&self, engine: &Engine, component: Digest) -> PathBuf {
        struct Sha(Sha256);
        impl Hasher for Sha {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                unreachable!("the digest is taken instead")
            }
        }
        let mut hasher = Sha(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        preview1::REVISION.hash(&mut hasher);
        let (component, engine) = (component.hex(), hex(&hasher.0.finalize()));
        self.0.directory.join(format!("{component}-{}.cwasm", &engine[..16]))
    }
}

/// Covers the name too: an entry renamed to pass for another is refused.
fn entry_digest(path: &Path, code: &[u8]) -> [u8; DIGEST_LEN] {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    Sha256::new().chain_update(name).chain_update(code).finalize().into()
}
