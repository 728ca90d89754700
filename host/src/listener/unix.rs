//! What both Unix server types share: the socket's name, its file, and who is at the other end.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::process::{Gid, Uid};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::socket_lock::SocketLock;
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
    lock: SocketLock,
}

impl SocketFile {
    /// The file of a socket that another process bound and locked, and owns for now.
    pub(crate) fn adopt(path: PathBuf, lock: OwnedFd) -> Self {
        let lock = SocketLock::adopt(&path, lock);
        Self { path, lock }
    }

    /// The lock, for a process that is to own the file too.
    pub(crate) fn lock(&self) -> io::Result<OwnedFd> {
        self.lock.file()
    }

    /// Says whether the files go with this process's socket or belong to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        self.lock.set_owned(is_owned);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.lock.is_owned() {
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
    let lock = SocketLock::take(path)?;
    remove_stale_or_wait(path, kind)?;
    if options.mode.is_some() {
        // The file gets the socket's mode: until it is the right one nobody else may connect.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.clone(), lock };
    set_owner_and_mode(path, options)?;
    Ok((socket, Some(file)))
}

/// Gives the file that was just bound what was asked for, and no other: a link that somebody puts in its place is
/// not followed.
fn set_owner_and_mode(path: &Path, options: &UnixSocketOptions) -> io::Result<()> {
    let UnixSocketOptions { mode, owner, group } = *options;
    if mode.is_none() && owner.is_none() && group.is_none() {
        return Ok(());
    }
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::other(
            "something else was put in the place of its file; choose a directory that no other user can write to",
        ));
    }
    if owner.is_some() || group.is_some() {
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        rustix::fs::chownat(&file, "", owner, group, AtFlags::EMPTY_PATH).map_err(|error| {
            io::Error::other(format!("cannot give its file to that owner or group: {error}; root can"))
        })?;
    }
    if let Some(mode) = mode {
        // Of a descriptor that only names a file, the kernel changes the mode in no other way.
        let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::set_permissions(by_descriptor, Permissions::from_mode(mode)).map_err(|error| {
            io::Error::other(format!("cannot set the mode of its file by /proc: {error}"))
        })?;
    }
    Ok(())
}

/// Removes the file that a dead server left behind; fails if it lives.
pub(crate) fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let _lock = SocketLock::take(path)?;
    remove_stale(path, Type::STREAM)
}

/// How long a dead server's processes may take to end: they have its socket for replies, and not its lock.
const REMAINS: Duration = Duration::from_secs(1);

fn remove_stale_or_wait(path: &Path, kind: Type) -> io::Result<()> {
    let deadline = Instant::now() + REMAINS;
    loop {
        match remove_stale(path, kind) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(REMAINS / 50);
            }
            removed => return removed,
        }
    }
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
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| {
                let user = metadata.uid();
                io::Error::other(format!(
                    "its file, which a dead server of user {user} left, cannot be removed: {error}; remove it or \
                     choose another path"
                ))
            })
        }
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
