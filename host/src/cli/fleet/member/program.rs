//! How the program itself becomes another: what the fleet brings is run only if a key has signed it that this host was told
//! for this alone, and takes over as in any other upgrade. The old program serves on where the new one does not start.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use anyhow::{Context, bail};
use plugsock::upgrade::version_of;
use plugsock::{Digest, PublicKey, SignatureError, shown};

use super::super::records::Version;
use super::job::NotTaken;
use super::lock;
use crate::cli::executable::Executable;
use crate::cli::kept;
use crate::cli::running::{Running, Serving};

pub(super) struct Program {
    keys: Vec<PublicKey>,
    /// Of what runs.
    digest: Digest,
    /// What this host was started with, and goes back to.
    executable: Executable,
    kept: kept::Kept,
    /// The name of the note that says what it handed over to last, in which roll-out.
    note: String,
    /// What that was when a process began that nobody handed over to: it has not stayed.
    before: Option<(u64, Digest)>,
    serving: Weak<Mutex<Serving>>,
}

impl Program {
    /// The largest that is taken: it is in memory before anybody has looked who signed it.
    pub(super) const MOST: u64 = 256 << 20;

    /// `None` for a host whose program the fleet has no say in.
    pub(super) fn new(
        keys: &[PublicKey],
        executable: Executable,
        is_successor: bool,
        kept: Option<&kept::Kept>,
        host: &str,
        serving: &Arc<Mutex<Serving>>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if keys.is_empty() {
            return Ok(None);
        }
        let Some(kept) = kept else {
            bail!(
                "--fleet-upgrade-key has programs kept below the cache directory: give one with --cache-dir, and no --no-cache"
            );
        };
        let running = fs::read("/proc/self/exe").context("cannot read this program")?;
        let note = format!("fleet {host} program");
        Ok(Some(Arc::new(Self {
            keys: keys.to_vec(),
            digest: Digest::of(&running),
            executable,
            kept: kept.clone(),
            before: (!is_successor).then(|| kept.note(&note)).flatten(),
            note,
            serving: Arc::downgrade(serving),
        })))
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn is_own(&self) -> bool {
        self.executable.is_running
    }

    /// The bytes of a program that is here.
    pub(super) fn kept(&self, digest: Digest) -> Option<Vec<u8>> {
        self.kept.program(digest, Self::MOST)
    }

    /// Whether it took over in this roll-out, and a process of another program had to be started in its place.
    pub(super) fn has_not_stayed(&self, generation: u64, digest: Digest) -> bool {
        self.before == Some((generation, digest))
    }

    /// Hands over to what this host was started with.
    pub(super) fn back(&self) -> Result<(), NotTaken> {
        self.hand_over(&self.executable.path)
    }

    pub(super) fn take(&self, generation: u64, version: &Version, bytes: &[u8]) -> Result<(), NotTaken> {
        self.check(version, bytes).map_err(NotTaken::Refused)?;
        let executable = self.kept.keep_program(version.digest, bytes);
        let executable =
            executable.map_err(|error| NotTaken::NotYet(format!("it cannot be kept: {error}")))?;
        let name = shown(&executable);
        let said = version_of(&executable)
            .map_err(|error| not_taken(&error, &format!("`{name} --version` does not do")))?;
        if !said.starts_with("plugsock ") {
            let said = plugsock::one_line(&said);
            return Err(NotTaken::Refused(format!(
                "`{name} --version` says '{said:.100}', which is not Plugsock"
            )));
        }
        self.kept.keep_note(&self.note, &(generation, version.digest));
        self.hand_over(&executable)
    }

    /// Refuses what is not to be run.
    fn check(&self, version: &Version, bytes: &[u8]) -> Result<(), String> {
        let found = Digest::of(bytes);
        if found != version.digest {
            return Err(format!("its digest is {found}, and the fleet says {}", version.digest));
        }
        let Some(signature) = &version.signature else {
            return Err("a signature is required (--fleet-upgrade-key), and it has none: `plugsock fleet upgrade --sign` \
                        adds one"
                .to_owned());
        };
        let verified = self.keys.iter().map(|key| key.verify(bytes, signature).map(drop));
        let verdict = verified.reduce(Result::or).unwrap_or(Err(SignatureError::Wrong));
        verdict.map_err(|error| {
            format!("its signature is not valid: {error} (--fleet-upgrade-key names whose count)")
        })
    }

    fn hand_over(&self, executable: &Path) -> Result<(), NotTaken> {
        let running: Option<Arc<Running>> =
            self.serving.upgrade().and_then(|serving| lock(&serving).running.upgrade());
        let Some(running) = running else {
            return Err(NotTaken::NotYet("this process is only about to serve".to_owned()));
        };
        running.upgrade_to(executable).map_err(|error| not_taken(&error, "it does not take over"))
    }
}

/// What the machine lacks for the moment is not the program's fault.
fn not_taken(error: &io::Error, what: &str) -> NotTaken {
    let reason = format!("{what}: {error}");
    match error.kind() {
        ErrorKind::ResourceBusy
        | ErrorKind::ExecutableFileBusy
        | ErrorKind::WouldBlock
        | ErrorKind::OutOfMemory => NotTaken::NotYet(reason),
        _ => NotTaken::Refused(reason),
    }
}
