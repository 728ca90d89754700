//! What a guest gets of WASI: clocks and random numbers, its log, and what was granted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::net_grant::NetGrant;
use super::network::Reachable;
use crate::error::{SandboxError, one_line};

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
    /// Where handlers may connect and send to with WASI's sockets.
    pub net: Vec<NetGrant>,
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

    /// Why an interface would be of no use to a handler under these grants.
    pub(super) fn denial(&self, import: &str) -> Option<&'static str> {
        let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
        match interface.split_once('/')? {
            // Only says what an address is.
            ("wasi:sockets", "network") => None,
            ("wasi:sockets", _) if self.net.is_empty() => Some("no --allow-net"),
            ("wasi:sockets", "ip-name-lookup") if !self.net.iter().any(NetGrant::is_name) => {
                Some("no name in --allow-net")
            }
            ("wasi:filesystem", _) if self.dirs.is_empty() => Some("no --dir"),
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
        reachable.grant(&mut builder);
        builder.stdout(log.stream("stdout")).stderr(log.stream("stderr"));
        builder.envs(environment).args(&self.args);
        for (name, value) in &self.env {
            if environment.iter().all(|(own, _)| own != name) {
                builder.env(name, value);
            }
        }
        for DirGrant { host, guest, read_only } in &self.dirs {
            let perms = if *read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            if let Err(error) = builder.preopened_dir(host, guest, perms) {
                tracing::warn!("directory {} cannot be granted any more: {error:#}", host.display());
            }
        }
        builder
    }
}

fn check_directory(path: &Path) -> io::Result<()> {
    std::fs::read_dir(path).map(drop)
}

/// The most of a line that is held back until it ends.
const LINE_MAX: usize = 8 * 1024;

/// Writes what a guest prints to the host's log, a line at a time.
#[derive(Clone)]
pub(super) struct GuestLog {
    /// The request that it serves now; 0 in a hook.
    request: Arc<AtomicU64>,
}

impl GuestLog {
    pub(super) fn new(request: Option<u64>) -> Self {
        Self { request: Arc::new(AtomicU64::new(request.unwrap_or(0))) }
    }

    pub(super) fn set_request(&self, request: u64) {
        self.request.store(request, Relaxed);
    }

    fn stream(&self, name: &'static str) -> LogStream {
        let lines = Lines { request: self.request.clone(), name, partial: Vec::new() };
        LogStream(Arc::new(Mutex::new(lines)))
    }
}

/// Standard output or standard error of one guest.
#[derive(Clone)]
struct LogStream(Arc<Mutex<Lines>>);

struct Lines {
    request: Arc<AtomicU64>,
    name: &'static str,
    partial: Vec<u8>,
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(LINE_MAX) {
                self.partial.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.partial.len() >= LINE_MAX {
                    self.emit();
                }
            }
        }
    }

    fn emit(&mut self) {
        let text = String::from_utf8_lossy(&self.partial);
        let line = one_line(text.trim_end_matches(['\r', '\n']));
        let stream = self.name;
        let request = Some(self.request.load(Relaxed)).filter(|id| *id != 0);
        tracing::info!(target: "guest", request, stream, "{line}");
        self.partial.clear();
    }
}

/// A guest that ends in the middle of a line has said that much.
impl Drop for Lines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.emit();
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    /// WASI 0.3 alone would use it, and this host has none.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LINE_MAX)
    }
}
