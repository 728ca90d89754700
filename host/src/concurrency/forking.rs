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
    /// Their versions keep them alive.
    started: Mutex<Vec<Weak<ForkServer>>>,
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
            started: Mutex::default(),
        }
    }

    /// Starts the fork server of a version, and waits until it can serve.
    pub(crate) fn prepare(&self, version: &Version) -> io::Result<()> {
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
        let fork_server = Arc::new(ForkServer::start(self.id, fork_setup, self.arguments.clone())?);
        let mut started = self.started();
        started.retain(|other| other.strong_count() > 0);
        started.push(Arc::downgrade(&fork_server));
        let mut fork_servers = version.fork_servers();
        // Those of servers that are gone.
        fork_servers.retain(|other| !other.is_closed());
        fork_servers.push(fork_server);
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
        self.started().iter().filter_map(Weak::upgrade).for_each(|fork_server| fork_server.cut_all());
    }

    /// Kills the children that still serve with a version.
    pub(crate) fn cut(&self, version: &Version) {
        if let Some(fork_server) = self.fork_server(version) {
            fork_server.cut_all();
        }
    }

    fn fork_server(&self, version: &Version) -> Option<Arc<ForkServer>> {
        version.fork_servers().iter().find(|fork_server| fork_server.owner() == self.id).cloned()
    }

    fn started(&self) -> MutexGuard<'_, Vec<Weak<ForkServer>>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forking {
    /// A version may live longer than one of its servers.
    fn drop(&mut self) {
        self.started().iter().filter_map(Weak::upgrade).for_each(|fork_server| fork_server.close());
    }
}
