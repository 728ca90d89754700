//! What may be named as the log's target.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use plugsock::shown;
use rustix::fs::OFlags;

use super::sink::Sink;

/// Where systemd's journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Where the log goes.
#[derive(Clone, Debug)]
pub enum LogTarget {
    Stderr,
    /// The journal, which listens there.
    Journal(PathBuf),
    File(PathBuf),
}

impl FromStr for LogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            _ if text == "stderr" => Ok(Self::Stderr),
            _ if text == "journald" => Ok(Self::Journal(JOURNAL_SOCKET.into())),
            Some(("journald", socket)) => Ok(Self::Journal(socket.into())),
            _ if text.is_empty() => Err("write stderr, journald or a file's path".to_owned()),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl LogTarget {
    /// Opens it, to be written to without a wait.
    pub fn open(&self) -> anyhow::Result<Sink> {
        match self {
            Self::Stderr => Ok(Sink::stderr_that_never_waits()),
            Self::File(path) => {
                let file = open_file(path);
                let file = file.with_context(|| {
                    format!("cannot log to the file {}, which --log-target names", shown(path))
                })?;
                Ok(Sink::file(file))
            }
            Self::Journal(path) => {
                let connect = || {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    Ok::<_, io::Error>(socket)
                };
                let socket = connect().with_context(|| {
                    format!("no journal listens at {}: give --log-target stderr or a file", shown(path))
                })?;
                Ok(Sink::socket("the journal", socket.into()))
            }
        }
    }
}

/// Opens a file to append to. One that others write to at the same time, as helpers do, has whole lines all the same.
pub fn open_file(path: &Path) -> io::Result<OwnedFd> {
    // For what is no plain file: nobody waits for its reader.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        File::options().append(true).create(true).mode(0o640).custom_flags(flags.bits() as i32).open(path)?;
    Ok(file.into())
}
