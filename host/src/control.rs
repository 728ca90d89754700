//! The control socket: how a program's servers are looked at and changed while they serve.
//!
//! A Unix socket that its user alone may connect to takes [`Command`]s and gives an [`Answer`] to each; a
//! [`ControlClient`] talks to it, which is what `plugsock ctl` and `plugsock top` do. The program itself is
//! what implements [`Controlled`].
#![doc = include_str!("../CONTROL.md")]

mod client;
mod directory;
mod execute;
mod follow;
mod lines;
mod protocol;
mod session;
mod socket;
mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::events::{Event, EventKind, emit};
pub use client::{ControlClient, Events, find_control_socket};
pub use protocol::{Answer, Command, Published, Refusal, RefusalKind};
pub use socket::{ControlServer, ControlSocket};
pub use status::{
    CertificateStatus, FleetStatus, Latency, RolloutStatus, ServerState, ServerStatus, SlotStatus, Status,
    TlsStatus, VersionStatus, VersionStatusState,
};

use crate::server::Server;
use crate::slot::{Slot, Source};
use crate::traces::Traces;

/// What a control socket acts on: a program's servers, and what the program alone can do.
pub trait Controlled: Send + Sync {
    /// All that it serves.
    fn servers(&self) -> Vec<Arc<Server>>;

    /// What can be swapped, each under a name of its own.
    fn slots(&self) -> Vec<Slot>;

    /// Where its servers send what their requests do, if anywhere.
    fn traces(&self) -> Option<Traces> {
        None
    }

    /// The fleet that it is part of, if it is.
    fn fleet(&self) -> Option<FleetStatus> {
        None
    }

    /// What a swap to `handler` loads; why it loads nothing, in words. A file, unless the program knows of more.
    fn source(&self, handler: &Path) -> Result<Source, String> {
        match handler.is_absolute() {
            true => Ok(handler.into()),
            false => Err(format!(
                "write the absolute path of {}: the server runs in a directory of its own",
                handler.display()
            )),
        }
    }

    /// Has another process of the program take over, as [`upgrade`](crate::upgrade) does; its id, or why none
    /// has. This program is then asked to [`shutdown`](Self::shutdown).
    fn upgrade(&self) -> Result<u32, String>;

    /// Has the program end as at its first signal; returns at once.
    fn shutdown(&self);

    /// Loads again what it serves by: configuration, handlers, certificates. What has changed, or why nothing has, in words.
    fn reload(&self) -> Result<Vec<String>, String>;

    /// Changes what is logged; why not, in words.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is nobody to ask.
    #[error("no server to control: {0}")]
    NoServer(String),
    /// It is unclear whom to ask: the sockets, and who listens there.
    #[error("several servers run, name one with --control: {}", listed(.0))]
    SeveralServers(Vec<(PathBuf, String)>),
    /// The server did not do it.
    #[error("{0}")]
    Refused(Refusal),
    /// The conversation broke off.
    #[error("the server at {path} {reason}")]
    Lost {
        /// Its socket.
        path: String,
        /// What happened.
        reason: String,
    },
}

fn listed(servers: &[(PathBuf, String)]) -> String {
    let words: Vec<String> =
        servers.iter().map(|(path, what)| format!("{} ({what})", path.display())).collect();
    words.join(", ")
}
