//! `forking`: a process for each request, as `ForkingMixIn` does it, forked by the fork server of the version
//! that serves the request.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::supervised::{ForkServer, ForkSetup};
use crate::fork_server::Setup;
use crate::server::Job;
use crate::server_info::ServerInfo;
use crate::slot::Version;

#[derive(Debug)]
pub(crate) struct Forking {
    /// Tells the fork servers of this server from those of others.
    id: u64,
    info: Arc<ServerInfo>,
    /// Arguments with which this executable becomes a fork server.
    arguments: Vec<OsString>,
    datagram_socket: Option<Arc<OwnedFd>>,
    /// Those that keep a fork server for it.
    versions: Mutex<Vec<Weak<Version>>>,
}

impl Forking {
    /// `datagram_socket` is what children of a datagram server reply through.
    pub(super) fn new(
        info: Arc<ServerInfo>,
        arguments: Vec<OsString>,
        datagram_socket: Option<OwnedFd>,
    ) -> Self {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: LAST_ID.fetch_add(1, Relaxed) + 1,
            info,
            arguments,
            datagram_socket: datagram_socket.map(Arc::new),
            versions: Mutex::default(),
        }
    }

    /// Starts the fork server of a version, and waits until it can serve.
    pub(crate) fn prepare(&self, version: &Arc<Version>) -> io::Result<()> {
        let handler = &version.handler;
        let setup = Setup {
            info: (*self.info).clone(),
            name: handler.name().to_owned(),
            digest: handler.digest().to_owned(),
            generation: version.info.generation,
            has_datagram_socket: self.datagram_socket.is_some(),
            limits: handler.sandbox().limits().clone(),
            grants: handler.sandbox().grants().clone(),
        };
        let datagram_socket = self.datagram_socket.clone();
        let drain = version.info.drain.clone();
        let fork_setup = ForkSetup { setup, code: handler.precompiled()?, datagram_socket, drain };
        let fork_server = ForkServer::start(fork_setup, self.arguments.clone())?;
        version.keep(self.id, Arc::new(fork_server));
        let mut versions = self.versions();
        versions.retain(|other| other.strong_count() > 0);
        versions.push(Arc::downgrade(version));
        Ok(())
    }

    pub(super) fn process_request(&self, job: Job) {
        match self.fork_server(job.version()) {
            Some(fork_server) => fork_server.process_request(job),
            None => job.refuse("its version has no fork server"),
        }
    }

    /// Kills the children that still serve.
    pub(super) fn cut_all(&self) {
        self.living().iter().for_each(|version| self.cut(version));
    }

    /// Kills the children that still serve with a version.
    pub(crate) fn cut(&self, version: &Version) {
        if let Some(fork_server) = self.fork_server(version) {
            fork_server.cut_all();
        }
    }

    fn fork_server(&self, version: &Version) -> Option<Arc<ForkServer>> {
        version.kept_for(self.id)
    }

    fn versions(&self) -> MutexGuard<'_, Vec<Weak<Version>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not under the lock: who uses one may be the last.
    fn living(&self) -> Vec<Arc<Version>> {
        self.versions().iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Forking {
    /// A version may live longer than one of its servers.
    fn drop(&mut self) {
        for version in self.living() {
            if let Some(fork_server) = self.fork_server(&version) {
                fork_server.close();
            }
            version.let_go(self.id);
        }
    }
}
