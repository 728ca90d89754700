//! The locked file beside a Unix socket's (`NAME.lock`), which decides whether a socket file is stale: a refused
//! connection alone could as well mean that the owner's queue is full.
//!
//! Whoever can open it could hold it, and whoever can write to the directory could put something else there. So it
//! is its user's alone, and nothing but such a file is taken for it.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::libc;

use crate::error::shown;

/// A locked file: as long as the server lives. The kernel lets go of it even after `kill -9`.
#[derive(Debug)]
pub(super) struct SocketLock {
    path: PathBuf,
    file: File,
    /// Otherwise the socket's file and this one are left to another process.
    is_owned: AtomicBool,
}

impl SocketLock {
    /// Takes the lock of a socket path; `AddrInUse` if a living server holds it.
    pub(super) fn take(socket: &Path) -> io::Result<Self> {
        let path = lock_path(socket);
        loop {
            let Some(file) = open(&path)? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // A server that closed between our open and our lock has removed the file that we locked.
            if is_same_file(&file, &path) {
                return Ok(Self { path, file, is_owned: AtomicBool::new(true) });
            }
        }
    }

    /// The lock that another process took and owns for now.
    pub(super) fn adopt(socket: &Path, file: OwnedFd) -> Self {
        Self { path: lock_path(socket), file: file.into(), is_owned: AtomicBool::new(false) }
    }

    /// The lock, for a process that is to have it too.
    pub(super) fn file(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    pub(super) fn is_owned(&self) -> bool {
        self.is_owned.load(SeqCst)
    }

    pub(super) fn set_owned(&self, is_owned: bool) {
        self.is_owned.store(is_owned, SeqCst);
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        if self.is_owned() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

const MODE: u32 = 0o600;

/// Opens the file, or makes it; `None` if it came or went in between. To open one that is there with `O_CREAT`
/// would fail in a sticky directory for reasons that have nothing to do with it (`fs.protected_regular`).
fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    // What is no file, for instance a pipe, is not waited for.
    options.read(true).write(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => match options.create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            // Its directory's fault.
            Err(error) => return Err(error),
        },
        Err(error) => match std::fs::symlink_metadata(path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(error),
            Ok(found) if found.is_symlink() => return Err(refused(path, "is a symbolic link")),
            Ok(found) => {
                let user = found.uid();
                return Err(refused(path, &format!("belongs to user {user} and cannot be opened: {error}")));
            }
        },
    };
    check(&file, path)?;
    Ok(Some(file))
}

/// Whether the file was made to be this lock, by this user or root; nobody else can open it afterwards.
fn check(file: &File, path: &Path) -> io::Result<()> {
    let (found, own) = (file.metadata()?, rustix::process::geteuid().as_raw());
    if !found.is_file() {
        return Err(refused(path, "is no regular file"));
    }
    if ![own, 0].contains(&found.uid()) {
        return Err(refused(path, &format!("belongs to user {}", found.uid())));
    }
    if found.nlink() > 1 {
        return Err(refused(path, "has other names too"));
    }
    // Made under a umask that took more away, or by a version that left it to the umask.
    if found.uid() == own && found.mode() & 0o7777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(())
}

fn refused(path: &Path, reason: &str) -> io::Error {
    let path = shown(path);
    io::Error::other(format!(
        "the lock file {path} {reason}; remove it if no server uses it, or choose another path for the socket"
    ))
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
