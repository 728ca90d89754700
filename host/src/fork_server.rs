//! The fork server: a second process of the host that forks for each request, as `ForkingMixIn` does.
//!
//! ```text
//!  host                                fork server                        child
//!  accept, verify ──request, socket──▶ says "taken", forks ─────────────▶ says "begun", serves, says how it went, exits
//!  ends the job   ◀──────────────────── reaps, says "exited"
//! ```
//!
//! Forking a process that has threads is a gamble: a lock that another thread holds stays locked for ever in
//! the child. So the forking is done by a process that never had a second thread: it is the host's
//! executable started anew, gets the handler precompiled, and starts no ticker, runtime or compiler. The
//! child may start threads, since it never forks, but serving needs none: a timer's signal is its ticker.

#![allow(unsafe_code, reason = "it forks, and its children tick by a signal")]

mod message;
mod ticker;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use seccompiler::BpfProgram;

pub(crate) use message::{FromServer, Setup, ToServer, WireRequest};

use crate::block_on::block_on;
use crate::error::{Phase, RequestError};
use crate::helper_process::{Channel, confine};
use crate::listener::DatagramSocket;
use crate::sandbox::{Drain, Handler, Sandbox, VersionInfo, Watch};
use crate::server_info::ServerInfo;
use crate::wake::poll_until;

/// What a child gets beyond its request's time before it is killed: its own watch should have ended it, and
/// closing may take two seconds.
const GRACE: Duration = Duration::from_secs(3);

/// Serves as the fork server until the host closes the channel.
pub(crate) fn run(channel: Channel) -> io::Result<()> {
    let Some((ToServer::Setup(setup), fds)) = channel.recv()? else {
        return Err(io::Error::other("the host did not say what to serve"));
    };
    match ForkServer::new(channel, *setup, fds) {
        Ok(mut server) => {
            server.channel.send(&FromServer::Ready(Ok(())), &[])?;
            server.serve()
        }
        Err((channel, reason)) => channel.send(&FromServer::Ready(Err(reason)), &[]),
    }
}

struct ForkServer {
    channel: Channel,
    setup: Setup,
    info: Arc<ServerInfo>,
    handler: Handler,
    version: VersionInfo,
    datagram_socket: Option<Arc<DatagramSocket>>,
    /// The system calls that a child gives up besides.
    child_filter: Option<BpfProgram>,
    children: HashMap<u64, Child>,
}

/// What came with the setup.
struct Loaded {
    handler: Handler,
    datagram_socket: Option<Arc<DatagramSocket>>,
    drain: Option<Arc<Drain>>,
}

struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    kill_at: Option<Instant>,
}

impl ForkServer {
    fn new(channel: Channel, setup: Setup, fds: Vec<OwnedFd>) -> Result<Self, (Channel, String)> {
        let loaded = Self::load(&setup, fds).and_then(|loaded| {
            let prepared = ticker::prepare(loaded.handler.sandbox(), &channel);
            prepared.map(|()| loaded).map_err(|error| error.to_string())
        });
        match loaded {
            Ok(Loaded { handler, datagram_socket, drain }) => {
                let info = Arc::new(setup.info.clone());
                let version = VersionInfo { generation: setup.generation, drain };
                let child_filter = confine::confine(&setup.grants);
                let children = HashMap::new();
                Ok(Self { channel, setup, info, handler, version, datagram_socket, child_filter, children })
            }
            Err(reason) => Err((channel, reason)),
        }
    }

    fn load(setup: &Setup, fds: Vec<OwnedFd>) -> Result<Loaded, String> {
        let mut fds = fds.into_iter();
        let code = fds.next().ok_or("the host sent no handler")?;
        let socket = if setup.has_datagram_socket { fds.next() } else { None };
        let datagram_socket = socket
            .map(|socket| DatagramSocket::new(socket.into(), setup.info.server_type).map(Arc::new))
            .transpose()
            .map_err(|error| error.to_string())?;
        let drain = fds.next().map(|event| Arc::new(Drain::from(event)));
        let sandbox = Sandbox::for_fork_server(setup.limits.clone(), setup.grants.clone())
            .map_err(|error| error.to_string())?;
        let handler =
            sandbox.load_precompiled(&setup.name, &setup.digest, code).map_err(|e| e.to_string())?;
        handler.warm_to_fork();
        Ok(Loaded { handler, datagram_socket, drain })
    }

    /// Forks for each request until the host closes the channel.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.reap()?;
            match self.channel.try_recv() {
                Ok(Some((ToServer::Serve(request), fds))) => self.process_request(request, fds)?,
                Ok(Some((ToServer::KillAll, _))) => self.children.values().for_each(Child::kill),
                Ok(Some((ToServer::Setup(_), _))) => return Err(io::Error::other("it is set up already")),
                // The host is gone; the children see it too.
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Until the host says something, a child exits, or one has to be killed.
    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.channel, PollFlags::IN)];
        fds.extend(self.children.values().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
        let deadline = self.children.values().filter_map(|child| child.kill_at).min();
        poll_until(&mut fds, deadline).map(drop)
    }

    /// Collects the children that have exited: only those that were forked here, one by one.
    fn reap(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut exited = Vec::new();
        for (id, child) in &mut self.children {
            if child.kill_at.is_some_and(|at| at <= now) {
                child.kill();
                child.kill_at = None;
            }
            if let Some((_, status)) = waitpid(Some(child.pid), WaitOptions::NOHANG)? {
                exited.push((*id, status));
            }
        }
        for (id, status) in exited {
            self.children.remove(&id);
            let signal = status.terminating_signal();
            self.channel.send(&FromServer::Exited { id, status: status.exit_status(), signal }, &[])?;
        }
        Ok(())
    }

    /// `socketserver`'s `process_request` of `ForkingMixIn`.
    fn process_request(&mut self, request: WireRequest, fds: Vec<OwnedFd>) -> io::Result<()> {
        let id = request.id;
        // Said before the fork: if this process is killed between the two, the host must not have the
        // request served a second time.
        self.channel.send(&FromServer::Taken(id), &[])?;
        // SAFETY: this process has a single thread, so the child may do whatever it could have done.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => self.child(request, fds),
            Ok(ForkResult::Parent { child }) => {
                let pid = Pid::from_raw(child.as_raw()).expect("a child's process id is positive");
                self.follow(id, pid)
            }
            Err(error) => self.refuse(id, format!("cannot fork: {error}")),
        }
    }

    fn follow(&mut self, id: u64, pid: Pid) -> io::Result<()> {
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // Nobody would see its end.
                let _ = kill_process(pid, Signal::KILL);
                waitpid(Some(pid), WaitOptions::empty())?;
                return self.refuse(id, format!("cannot follow its process: {error}"));
            }
        };
        let time = self.setup.limits.request_time;
        let kill_at = time.and_then(|time| Instant::now().checked_add(time.saturating_add(GRACE)));
        self.children.insert(id, Child { pid, pidfd, kill_at });
        Ok(())
    }

    fn refuse(&self, id: u64, reason: String) -> io::Result<()> {
        self.channel.send(&FromServer::Refused(id, reason), &[])
    }

    /// Serves one request and exits.
    fn child(&mut self, request: WireRequest, fds: Vec<OwnedFd>) -> ! {
        let id = request.id;
        self.children.clear();
        let code = match self.serve_one(request, fds) {
            Ok(()) => 0,
            Err(error) => {
                let error = RequestError::host(Phase::Instantiate, error.to_string());
                let told = self.channel.send(&FromServer::Outcome(id, Err(error)), &[]);
                i32::from(told.is_err())
            }
        };
        std::process::exit(code);
    }

    fn serve_one(&self, request: WireRequest, fds: Vec<OwnedFd>) -> io::Result<()> {
        self.channel.send(&FromServer::Begun(request.id), &[])?;
        let name = format!("forking-{}", std::process::id());
        rustix::thread::set_name(&std::ffi::CString::new(name)?)?;
        confine::confine_child(&self.setup.limits, self.child_filter.as_ref());
        ticker::start()?;
        let (socket, min_rate) = (fds.into_iter().next(), self.setup.limits.min_rate);
        let request = request.into_request(socket, self.datagram_socket.as_ref(), min_rate)?;
        let request = Arc::new(request);
        let watch = Arc::new(Watch::new(&self.setup.limits, request.waits));
        block_on(async {
            let served = self.handler.serve(&self.info, &self.version, &request, &watch).await;
            // Said before the close, which may have to wait for a client that is still sending.
            self.channel.send(&FromServer::Outcome(request.id(), served), &[])?;
            request.shutdown_request().await;
            Ok(())
        })
    }
}

impl Child {
    fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }
}
