//! Where control sockets are: in a directory that belongs to one user alone, named for their processes.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::BindError;
use crate::listener::remove_stale_socket;
use crate::own_directory::{check_directory_of, check_own_directory};

/// What the name of a control socket ends with, after the process's id.
const SUFFIX: &str = ".sock";

/// This user's own directory, whether it is there or not.
pub(super) fn own() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|runtime| check_directory_of(runtime, uid).is_ok()) {
        Some(runtime) => runtime.join("plugsock"),
        None => below_temp(uid),
    }
}

/// Makes this user's own directory, if need be.
pub(super) fn make_own() -> Result<PathBuf, BindError> {
    let directory = own();
    let made = match DirBuilder::new().mode(0o700).create(&directory) {
        // Nobody else can put anything in its place, and the umask may have taken too much away.
        Ok(()) => fs::set_permissions(&directory, Permissions::from_mode(0o700)),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Somebody else may have been there first, with a directory of theirs or a link.
        _ => check_own_directory(&directory),
    };
    made.map_err(|error| BindError::Refused {
        address: directory.display().to_string(),
        reason: format!(
            "{error}; remove what is there, choose another path with --control, or do without by --no-control"
        ),
    })?;
    Ok(directory)
}

/// The directories of a user that are there and to be trusted.
pub(super) fn of_user(uid: u32) -> Vec<PathBuf> {
    let by_login = PathBuf::from(format!("/run/user/{uid}/plugsock"));
    let own = (uid == rustix::process::geteuid().as_raw()).then(own);
    let mut directories: Vec<_> = own.into_iter().chain([by_login, below_temp(uid)]).collect();
    directories.retain(|directory| check_directory_of(directory, uid).is_ok());
    directories
}

fn below_temp(uid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("plugsock-{uid}"))
}

/// Where a process has its control socket.
pub(super) fn socket_in(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}{SUFFIX}"))
}

/// Where systemd has the socket of a service: only root makes anything below `/run`.
pub(super) fn of_service() -> PathBuf {
    PathBuf::from("/run/plugsock")
}

/// The control sockets in this user's own directory, also those of servers that died.
pub(super) fn own_sockets() -> Vec<PathBuf> {
    let directory = own();
    match check_own_directory(&directory) {
        Ok(()) => sockets_in(&directory),
        Err(_) => Vec::new(),
    }
}

pub(super) fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut sockets: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)))
        .collect();
    sockets.sort();
    sockets
}

/// Removes what servers left that were killed.
pub(super) fn remove_stale() {
    for socket in own_sockets() {
        // One that lives, or that cannot be removed, does no harm.
        let _ = remove_stale_socket(&socket);
    }
}
