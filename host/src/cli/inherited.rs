//! Sockets that were bound before the start, by systemd or another that speaks its protocol: descriptors from 3
//! on, as many as `LISTEN_FDS` says, meant for the process `LISTEN_PID`.

#![allow(unsafe_code, reason = "it takes over descriptors that it was only told of")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, bail};
use plugsock::{ServerType, server_type_of};

/// Where the descriptors begin: after the standard streams.
const FIRST: RawFd = 3;

const VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// A socket to serve.
#[derive(Debug)]
pub struct Inherited {
    pub socket: OwnedFd,
    pub server_type: ServerType,
    /// Whether it was passed under the name `tls`.
    pub is_tls: bool,
}

/// The name (`FileDescriptorName=`) of sockets whose connections are to be protected by TLS.
const TLS: &str = "tls";

/// Takes the sockets that were bound for this process: all, or none if one of them cannot be served.
///
/// The variables are gone afterwards, so that no child takes them for its own. To be called before there is a
/// second thread.
pub fn take() -> anyhow::Result<Vec<Inherited>> {
    let [count, pid, names] = VARIABLES.map(|name| std::env::var(name).ok());
    for name in VARIABLES {
        // SAFETY: no other thread reads the environment, since there is none yet.
        unsafe { std::env::remove_var(name) };
    }
    let (Some(count), Some(pid)) = (count, pid) else { return Ok(Vec::new()) };
    if pid.parse() != Ok(std::process::id()) {
        tracing::warn!(
            "the sockets in LISTEN_FDS are for process {pid}, not for this one: they are left alone"
        );
        return Ok(Vec::new());
    }
    let count: u16 =
        count.parse().with_context(|| format!("LISTEN_FDS is no number of sockets: '{count}'"))?;
    let fds = FIRST..FIRST + RawFd::from(count);
    let types: Vec<ServerType> = fds.clone().map(check).collect::<Result<_, _>>()?;
    let names = names.unwrap_or_default();
    let are_tls = names.split(':').map(|name| name == TLS).chain(std::iter::repeat(false));
    let inherited = fds.zip(types).zip(are_tls).map(|((fd, server_type), is_tls)| {
        if is_tls && server_type.is_datagram() {
            bail!("descriptor {fd} from LISTEN_FDS is named '{TLS}', which does not protect datagrams");
        }
        // SAFETY: `check` found it open, it was passed to this process to own, and nobody else has been told.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Inherited { socket, server_type, is_tls })
    });
    inherited.collect()
}

/// Which kind of server a descriptor is for.
fn check(fd: RawFd) -> anyhow::Result<ServerType> {
    // SAFETY: it is only asked about, and if it is not open the kernel says so.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    if rustix::io::fcntl_getfd(socket).is_err() {
        bail!("LISTEN_FDS promises a socket as descriptor {fd}, which is not open");
    }
    match server_type_of(socket) {
        Ok(Some(server_type)) => Ok(server_type),
        Ok(None) | Err(_) => bail!(
            "descriptor {fd} from LISTEN_FDS is not a socket that can be served: use ListenStream= or \
             ListenDatagram=, and leave Accept= off"
        ),
    }
}
