//! What both Unix server types share: the socket's name, its file, and who is at the other end.
//!
//! A lock file beside the socket (`NAME.lock`) decides whether a socket file is stale: a refused connection
//! alone could as well mean that the owner's queue is full.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::address::UnixAddress;
use crate::request::UnixCredentials;

/// Mode and owner of a Unix socket's file; `None` leaves what the umask and the process give.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnixSocketOptions {
    /// The file's permission bits, for instance `0o660`.
    pub mode: Option<u32>,
    /// The file's owner, as a user id.
    pub owner: Option<u32>,
    /// The file's group, as a group id.
    pub group: Option<u32>,
}

/// A socket's file, which goes when the server closes.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    lock: Lock,
}

/// A locked file: as long as the server lives. The kernel lets go of it even after `kill -9`.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
    /// Otherwise both files are left to another process.
    is_owned: AtomicBool,
}

impl SocketFile {
    /// The file of a socket that another process bound and locked, and owns for now.
    pub(crate) fn adopt(path: PathBuf, lock: OwnedFd) -> Self {
        let lock = Lock { path: lock_path(&path), file: lock.into(), is_owned: AtomicBool::new(false) };
        Self { path, lock }
    }

    /// The lock, for a process that is to own the file too.
    pub(crate) fn lock(&self) -> io::Result<OwnedFd> {
        Ok(self.lock.file.try_clone()?.into())
    }

    /// Says whether the files go with this process's socket or belong to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        self.lock.is_owned.store(is_owned, SeqCst);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.lock.is_owned.load(SeqCst) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_owned.load(SeqCst) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds a Unix socket of type `kind`, replacing a file that a dead server left behind.
pub(crate) fn bind(
    name: &UnixAddress,
    kind: Type,
    options: &UnixSocketOptions,
) -> io::Result<(Socket, Option<SocketFile>)> {
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    let path = match name {
        UnixAddress::Abstract(name) => {
            let mut bytes = vec![0];
            bytes.extend_from_slice(name);
            socket.bind(&SockAddr::unix(std::ffi::OsStr::from_bytes(&bytes))?)?;
            return Ok((socket, None));
        }
        UnixAddress::Path(path) => path,
        UnixAddress::Unnamed => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let lock = lock(path)?;
    remove_stale(path, kind)?;
    if options.mode.is_some() {
        // The file gets the socket's mode: until it is the right one nobody else may connect.
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.clone(), lock };
    if options.owner.is_some() || options.group.is_some() {
        std::os::unix::fs::chown(path, options.owner, options.group)?;
    }
    if let Some(mode) = options.mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok((socket, Some(file)))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    lock_path.into()
}

/// Takes the lock of a socket path; `AddrInUse` if a living server holds it.
fn lock(path: &Path) -> io::Result<Lock> {
    let lock_path = lock_path(path);
    loop {
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        // A server that closed between our open and our lock has removed the file that we locked.
        if is_same_file(&lock, &lock_path) {
            return Ok(Lock { path: lock_path, file: lock, is_owned: AtomicBool::new(true) });
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Removes the file that a dead server left behind; fails if it lives.
pub(crate) fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let _lock = lock(path)?;
    remove_stale(path, Type::STREAM)
}

/// Removes the file of a socket that nothing listens on. Any other file stays.
fn remove_stale(path: &Path, kind: Type) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket stands there; remove it or choose another path",
        ));
    }
    // The lock is ours, but a server that takes no lock may still be alive.
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // EPROTOTYPE: a living socket of the other type.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Who connected: `SO_PEERCRED`, which the kernel fills in and a client cannot forge.
pub(crate) fn peer_credentials(socket: SockRef<'_>) -> Option<UnixCredentials> {
    let credentials = rustix::net::sockopt::socket_peercred(&*socket).ok()?;
    Some(UnixCredentials {
        pid: u32::try_from(credentials.pid.as_raw_nonzero().get()).ok(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}
