//! What a guest gets of WASI: clocks and random numbers, its log, and what was granted.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::guest_log::GuestLog;
use super::net_grant::NetGrant;
use super::network::Reachable;
use super::preview1::PREVIEW1;
use super::tls_client::TlsCa;
use crate::error::{SandboxError, shown};
use crate::stores::StateGrant;

/// What handlers may reach beyond their request; nothing by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Grants {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Directories of the host.
    pub dirs: Vec<DirGrant>,
    /// Command-line arguments, the handler's name first.
    pub args: Vec<String>,
    /// Whether a datagram handler may send to other addresses than its client's.
    pub send_to: bool,
    /// Whether handlers share the standard input of this process: each byte is for the one that reads it first. An
    /// ordinary program has its client there in any case, and a forked child nothing.
    pub stdin: bool,
    /// Where handlers may connect and send to with WASI's sockets.
    pub net: Vec<NetGrant>,
    /// Whose certificates are believed, besides those of Mozilla's list, where handlers speak TLS.
    pub tls_ca: Vec<TlsCa>,
    /// The stores that handlers may open. Only the host knows where they are: a forked child asks it.
    #[serde(skip)]
    pub state: Vec<StateGrant>,
}

/// A directory that handlers may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirGrant {
    /// The directory on the host.
    #[serde(with = "crate::address::path_bytes")]
    pub host: PathBuf,
    /// The path under which handlers see it.
    pub guest: String,
    /// Whether they may only read there.
    pub read_only: bool,
}

impl Grants {
    /// Says now, and not to the first client, that a directory is missing.
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        self.dirs.iter().try_for_each(|dir| {
            check_directory(&dir.host).map_err(|reason| {
                let path = dir.host.display().to_string();
                SandboxError::Directory { path, reason }
            })
        })
    }

    /// Why an interface would be of no use to a handler, or to an ordinary program, under these grants.
    pub(super) fn denial(&self, import: &str, is_command: bool) -> Option<&'static str> {
        let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
        match interface.split_once(['/', '#'])? {
            // Only says what an address is.
            ("wasi:sockets", "network") => None,
            ("wasi:sockets" | "wasi:tls", _) | ("wasi:http", "outgoing-handler") if self.net.is_empty() => {
                Some("no --allow-net")
            }
            ("wasi:sockets", "ip-name-lookup") if !self.net.iter().any(NetGrant::is_name) => {
                Some("no name in --allow-net")
            }
            // A program has its client there.
            ("wasi:cli", "stdin") if !self.stdin && !is_command => Some("no --allow-stdin"),
            ("wasi:keyvalue", _) if self.state.is_empty() => Some("no --state"),
            ("wasi:filesystem", _) if self.dirs.is_empty() => Some("no --dir"),
            (PREVIEW1, function) if function.starts_with("path_") && self.dirs.is_empty() => Some("no --dir"),
            _ => None,
        }
    }

    /// A guest's WASI with what is granted; `environment` is the host's own word and goes before grants.
    pub(super) fn wasi(
        &self,
        log: &GuestLog,
        reachable: &Reachable,
        environment: &[(&str, String)],
    ) -> WasiCtxBuilder {
        let mut builder = WasiCtxBuilder::new();
        builder.max_random_size(RANDOM_MAX);
        reachable.grant(&mut builder);
        builder.stdout(log.stream("stdout")).stderr(log.stream("stderr"));
        if self.stdin {
            builder.inherit_stdin();
        }
        builder.envs(environment).args(&self.args);
        for (name, value) in &self.env {
            if environment.iter().all(|(own, _)| own != name) {
                builder.env(name, value);
            }
        }
        for DirGrant { host, guest, read_only } in &self.dirs {
            let perms = if *read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            if let Err(error) = builder.preopened_dir(host, guest, perms) {
                tracing::warn!("directory {} cannot be granted any more: {error:#}", shown(host));
            }
        }
        builder
    }
}

/// The most random bytes that one call gives; they come out of the host's memory.
const RANDOM_MAX: u64 = 8 << 20;

fn check_directory(path: &Path) -> io::Result<()> {
    std::fs::read_dir(path).map(drop)
}
