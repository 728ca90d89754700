//! `forking`: a process for each request, as `ForkingMixIn` does it, forked by the fork server of the version
//! that serves the request.

mod children;
mod supervised;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::fork_server::Setup;
use crate::job::Job;
use crate::sandbox::Drain;
use crate::server_info::ServerInfo;
use crate::slot::Version;
use children::Children;
pub(crate) use supervised::renew_stderr;
use supervised::{ForkSetup, SupervisedForkServer};

#[derive(Debug)]
pub(crate) struct Forking {
    /// Tells what versions keep for this server from what they keep for others.
    id: u64,
    info: Arc<ServerInfo>,
    /// Arguments with which this executable becomes a fork server.
    arguments: Vec<OsString>,
    datagram_socket: Option<Arc<OwnedFd>>,
    children: Arc<Children>,
    /// Tells children that the server takes no further requests.
    closing: Arc<Drain>,
    /// Their versions keep them alive.
    started: Mutex<Vec<Weak<SupervisedForkServer>>>,
    /// How many have died and were started again.
    deaths: Arc<AtomicU64>,
}

/// How the fork servers of one server fare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkServers {
    pub(crate) running: usize,
    pub(crate) deaths: u64,
}

impl Forking {
    /// `datagram_socket` is what children of a datagram server reply through; `closing` tells them when connections are to
    /// bring no further requests of HTTP.
    pub(super) fn start(
        info: Arc<ServerInfo>,
        arguments: Vec<OsString>,
        closing: Arc<Drain>,
        datagram_socket: Option<OwnedFd>,
    ) -> io::Result<Self> {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        let id = LAST_ID.fetch_add(1, Relaxed) + 1;
        Ok(Self {
            id,
            info,
            arguments,
            datagram_socket: datagram_socket.map(Arc::new),
            children: Children::start(id)?,
            closing,
            started: Mutex::default(),
            deaths: Arc::default(),
        })
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
            room: handler.sandbox().room().clone(),
            limits: handler.sandbox().limits().clone(),
            grants: handler.sandbox().grants().clone(),
            core_dump_size: handler.sandbox().core_dumps().size(),
        };
        let datagram_socket = self.datagram_socket.clone();
        let drain = version.info.drain.clone();
        let (code, closing) = (handler.precompiled()?, self.closing.clone());
        let deaths = self.deaths.clone();
        let fork_setup = ForkSetup { setup, code, datagram_socket, closing, drain, deaths };
        let fork_server = Arc::new(SupervisedForkServer::start(fork_setup, self.arguments.clone())?);
        let mut started = self.started();
        started.retain(|other| other.strong_count() > 0);
        started.push(Arc::downgrade(&fork_server));
        drop(started);
        version.keep(self.id, fork_server);
        Ok(())
    }

    pub(crate) fn fork_servers(&self) -> ForkServers {
        let started: Vec<_> = self.started().iter().filter_map(Weak::upgrade).collect();
        let running = started.iter().filter(|fork_server| fork_server.is_running()).count();
        ForkServers { running, deaths: self.deaths.load(Relaxed) }
    }

    pub(super) fn process_request(&self, job: Job) {
        self.children.serve(job);
    }

    fn started(&self) -> MutexGuard<'_, Vec<Weak<SupervisedForkServer>>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forking {
    /// A version may live longer than one of its servers.
    fn drop(&mut self) {
        self.started().iter().filter_map(Weak::upgrade).for_each(|fork_server| fork_server.close());
        self.children.close();
    }
}
