//! The fork server: a second process of the host that forks for each request, as `ForkingMixIn` does.
//!
//! ```text
//!  host                                      fork server              child
//!  accept, verify ──status socket, socket──▶ forks ─────────────────▶ takes the request, serves, says how it went
//!  ends the job   ◀───────────────────────── reaps; both have let go of the status socket
//! ```
//!
//! Forking a process that has threads is a gamble: a lock that another thread holds stays locked for ever in
//! the child. So the forking is done by a process that never had a second thread: it is the host's
//! executable started anew, gets the handler precompiled, and starts no ticker, reactor or compiler. The
//! child may start threads, since it never forks, but serving needs none: a timer's signal is its ticker.
//!
//! The request itself lies in its status socket until the child takes it. So whoever dies when, the host can tell a
//! request that nobody has begun with, which it gives to the next fork server, from one whose process has ended. A child has
//! no other channel: not the one between host and fork server, nor those of its siblings.

#![allow(unsafe_code, reason = "it forks, and its children are reached by signals")]

mod host_socket;
mod message;
mod state;
mod ticker;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, WaitOptions, WaitStatus, getrlimit, kill_process, pidfd_open, waitpid,
};
use rustix::stdio::dup2_stderr;

pub(crate) use message::{Ready, Report, Setup, Status, StatusSocket, ToForkServer};
pub(crate) use state::Operating;

use crate::address::ServerType;
use crate::block_on::block_on;
use crate::error::{Phase, RequestError};
use crate::helper_process::confine::{self, ChildConfinement};
use crate::helper_process::{Channel, log_filter, message_buffer, send};
use crate::request::{DatagramSocket, Request, Waits};
use crate::runtime;
use crate::sandbox::{Drain, Fixed, Handler, Handover, Limits, Sandbox, VersionInfo, Watch};
use crate::server_info::ServerInfo;
use crate::taken::{AnswerCount, Taken};
use crate::traces::Trace;
use crate::wake::poll_until;
use host_socket::HostSocket;
use message::WireRequest;
use state::RemoteState;

/// What a child gets beyond its request's time before it is killed: its own watch should have ended it, and
/// closing may take two seconds.
const GRACE: Duration = Duration::from_secs(3);

/// Serves as the fork server until the host closes the channel; in each child, serves one request.
pub(crate) fn run(channel: Channel) -> io::Result<()> {
    let Some((ToForkServer::Setup, fds)) = channel.recv()? else {
        return Err(io::Error::other("the host did not say what to serve"));
    };
    let server = match ForkServer::new(fds) {
        Ok(server) => server,
        Err(reason) => return channel.send(&Ready::Err(reason), &[]),
    };
    channel.send(&Ready::Ok(()), &[])?;
    match server.fork_for_each_request(channel)? {
        Some(errand) => {
            let served = server.serve(errand);
            // SAFETY: it only ends the process. Nothing is tidied up: whatever that touches of what the fork server has
            // would be copied first.
            unsafe { libc::_exit(i32::from(served.is_err())) }
        }
        None => Ok(()),
    }
}

struct ForkServer {
    setup: Setup,
    info: Arc<ServerInfo>,
    handler: Handler,
    version: VersionInfo,
    closing: Arc<Drain>,
    datagram_socket: Option<Arc<DatagramSocket>>,
    /// What a child gives up besides.
    child_confinement: ChildConfinement,
    /// Where a child takes its request: what is there already need not be made by each.
    buffer: Mutex<Box<[u8]>>,
}

/// What comes for one request.
struct Errand {
    status: OwnedFd,
    /// `None` for a datagram.
    connection: Option<OwnedFd>,
}

/// A process that serves one request.
struct Child {
    pidfd: OwnedFd,
    /// Held, too, so that the host hears of the end when the child has been waited for.
    status: OwnedFd,
    kill_at: Option<Instant>,
    is_killed: bool,
}

impl ForkServer {
    fn new(fds: Vec<OwnedFd>) -> Result<Self, String> {
        let mut fds = fds.into_iter();
        let setup = fds.next().ok_or("the host sent no setup")?;
        let setup = Setup::from_file(setup).map_err(|error| error.to_string())?;
        let code = fds.next().ok_or("the host sent no handler")?;
        log_filter::follow(fds.next().ok_or("the host sent nothing to hear of the log's filter by")?);
        let socket = if setup.has_datagram_socket { fds.next() } else { None };
        let datagram_socket = socket
            .map(|socket| DatagramSocket::new(socket.into(), setup.info.server_type).map(Arc::new))
            .transpose()
            .map_err(|error| error.to_string())?;
        let closing =
            Arc::new(Drain::from(fds.next().ok_or("the host sent nothing to hear of its closing by")?));
        let drain = fds.next().map(|event| Arc::new(Drain::from(event)));
        let Setup { room, limits, grants, core_dump_size, .. } = setup.clone();
        let sandbox = Sandbox::for_fork_server(room, limits, grants, core_dump_size)
            .map_err(|error| error.to_string())?;
        let handler =
            sandbox.load_precompiled(&setup.name, &setup.digest, code).map_err(|e| e.to_string())?;
        handler.warm_to_fork();
        ticker::prepare(handler.sandbox()).map_err(|error| error.to_string())?;
        let info = Arc::new(setup.info.clone());
        let version = VersionInfo { generation: setup.generation, drain };
        let limits = match handler.speaks_http() {
            true => of_many_requests(&setup.limits, setup.info.http.streams),
            false => setup.limits.clone(),
        };
        let answers_by_name = setup.info.server_type == ServerType::UnixDatagram;
        let child_confinement =
            confine::confine(&setup.grants, &limits, setup.core_dump_size, answers_by_name);
        let buffer = Mutex::new(message_buffer());
        Ok(Self { setup, info, handler, version, closing, datagram_socket, child_confinement, buffer })
    }

    /// `socketserver`'s `process_request` of `ForkingMixIn`, until the host closes the channel. In a child it returns what
    /// the child is to serve, and has let go of the channel and of all that belongs to siblings.
    fn fork_for_each_request(&self, channel: Channel) -> io::Result<Option<Errand>> {
        let mut children = HashMap::new();
        let most = most_children();
        loop {
            let may_fork = children.len() < most;
            if wait(may_fork.then_some(&channel), &mut children)? {
                reap(&mut children);
            }
            if !may_fork {
                continue;
            }
            let fds = match channel.try_recv() {
                Ok(Some((ToForkServer::Serve, fds))) => fds,
                Ok(Some((ToForkServer::LogTo, fds))) => {
                    fds.first().map(dup2_stderr).transpose()?;
                    continue;
                }
                Ok(Some((ToForkServer::Setup, _))) => {
                    return Err(io::Error::other("it is set up already"));
                }
                // The host is gone, or has no use for this process any more. The children see the former, too.
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let mut fds = fds.into_iter();
            let Some(status) = fds.next() else { return Err(io::Error::other("a status socket is missing")) };
            let errand = Errand { status, connection: fds.next() };
            // So that not each child has to do it.
            log_filter::look();
            // SAFETY: this process has a single thread, so the child may do whatever it could have done.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => return Ok(Some(errand)),
                Ok(ForkResult::Parent { child }) => {
                    let pid = Pid::from_raw(child.as_raw()).expect("a child's process id is positive");
                    children.extend(self.follow(pid, errand.status).map(|child| (pid, child)));
                }
                Err(error) => refuse(&errand.status, format!("cannot fork: {error}")),
            }
        }
    }

    fn follow(&self, pid: Pid, status: OwnedFd) -> Option<Child> {
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // Nobody would see its end.
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
                refuse(&status, format!("cannot follow its process: {error}"));
                return None;
            }
        };
        let request_time = self.setup.limits.request_time;
        let time = match self.handler.speaks_http() {
            true => request_time.zip(self.info.http.connection_time).map(|(last, before)| before + last),
            false => request_time,
        };
        let kill_at = time.and_then(|time| Instant::now().checked_add(time.saturating_add(GRACE)));
        Some(Child { pidfd, status, kill_at, is_killed: false })
    }

    /// Serves one request, in a child of its own.
    fn serve(&self, Errand { status, connection }: Errand) -> io::Result<()> {
        let host = Arc::new(HostSocket::new(status));
        let served = self.prepare_child(&host).and_then(|mut request| {
            let (received, trace) = (std::mem::take(&mut request.received), request.trace.take());
            let mut request = request.into_request(connection, &host, self.datagram_socket.as_ref())?;
            request.set_min_rate(self.setup.limits.min_rate);
            Ok((Arc::new(request), received, trace))
        });
        let (request, received, trace) = match served {
            Ok(served) => served,
            Err(error) => {
                let error = RequestError::host(Phase::Instantiate, error.to_string());
                return host.tell(&Report::Served(Err(error), Taken::default()));
            }
        };
        let keeper = host.clone();
        self.handler.sandbox().core_dumps().hand_over_by(Box::new(move |phase, dump| {
            send(&*keeper, &Report::CoreDump(phase), &[dump.as_fd()])
        }));
        let state = RemoteState::new(&host, self.setup.limits.state.time);
        self.handler.sandbox().reach_state_by(Arc::new(state));
        if self.handler.speaks_http() {
            return runtime::drive(self.serve_http(&host, &request, received))?;
        }
        let watch = Watch::new(&self.setup.limits, Waits::Thread).measuring(self.info.is_measured);
        let watch = Arc::new(watch.tracing(trace.map(Trace::of_another)));
        block_on(async {
            let served = self.handler.serve(&self.info, &self.version, &request, &watch).await;
            let taken = self.with_the_rest(watch.taken(), &request);
            end(&host, served, taken, &request, Waits::Thread).await
        })
    }

    /// Serves a connection that brings requests of HTTP, all of them by the version that it has. When that is replaced, the
    /// connection goes back to the host, for a child of the next.
    async fn serve_http(
        &self,
        host: &Arc<HostSocket>,
        request: &Arc<Request>,
        received: Vec<u8>,
    ) -> io::Result<()> {
        let watch = Arc::new(Watch::for_connection(&self.setup.limits).measuring(self.info.is_measured));
        let handover = Arc::new(Handover::new(&self.version, received));
        let (teller, lender, connection) = (host.clone(), host.clone(), request.clone());
        let exchanges = Arc::new(Fixed {
            handler: self.handler.clone(),
            version: self.version.clone(),
            time: None,
            closing: Some(self.closing.clone()),
            handover: Some(handover.clone()),
            more_room: Box::new(move || lender.more_room()),
            server: self.info.clone(),
            answers: AnswerCount::default(),
            refused: Mutex::default(),
            ended: move |served, latency, taken| {
                let taken = Taken { volume: connection.take_volume(), ..taken };
                // A host that has gone need not know.
                let _ = teller.tell(&Report::Exchanged(served, latency, taken));
            },
        });
        let served = self.handler.serve_http(&self.info, request, &watch, exchanges.clone()).await;
        let taken = exchanges.with_the_rest(watch.taken());
        let taken = self.with_the_rest(taken, request);
        match handover.take() {
            Some(received) if served.is_ok() => host.tell(&Report::HandedBack(received, taken)),
            _ => end(host, served, taken, request, Waits::Task).await,
        }
    }

    /// With what is known of the child as a whole.
    fn with_the_rest(&self, taken: Taken, request: &Request) -> Taken {
        let dropped_lines = self.handler.sandbox().dropped_lines();
        Taken { volume: request.take_volume(), dropped_lines, ..taken }
    }

    fn prepare_child(&self, host: &HostSocket) -> io::Result<WireRequest> {
        let request =
            WireRequest::take(host, &mut self.buffer.lock().unwrap_or_else(PoisonError::into_inner))?;
        let name = format!("forking-{}", std::process::id());
        rustix::thread::set_name(&std::ffi::CString::new(name)?)?;
        // With what this process had of random numbers before, it would draw the same as its siblings.
        rand::rng().reseed().map_err(io::Error::other)?;
        ticker::start(host)?;
        self.child_confinement.apply();
        Ok(request)
    }
}

/// Says how it went, and lingers while the client goes on sending.
async fn end(
    host: &HostSocket,
    served: Result<(), RequestError>,
    taken: Taken,
    request: &Request,
    waits: Waits,
) -> io::Result<()> {
    let is_sending = request.discard_unread();
    // The host half-closes the connection, so that what the request counts for is given back before.
    host.tell(&Report::Served(served, taken))?;
    if is_sending {
        request.linger(waits).await;
    }
    Ok(())
}

/// What the requests of one connection may use, so many at once. What they take one after the other has no bound but the
/// connection's age.
fn of_many_requests(limits: &Limits, at_once: u32) -> Limits {
    let at_once = at_once as usize;
    Limits {
        memory: limits.memory.saturating_mul(at_once),
        stack: limits.stack.saturating_mul(at_once),
        memories: limits.memories.saturating_mul(at_once),
        resources: limits.resources.saturating_mul(at_once),
        cpu_time: None,
        ..limits.clone()
    }
}

/// What a fork server has open beside what it holds for its children, with room for what comes with one request.
const OWN_DESCRIPTORS: usize = 20;

/// How many children it has the descriptors for; further requests wait in the channel.
fn most_children() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    (descriptors.saturating_sub(OWN_DESCRIPTORS) / 2).max(1)
}

/// Until the host says something, a child exits, or one has to be killed, which is done; whether one may have exited.
fn wait(channel: Option<&Channel>, children: &mut HashMap<Pid, Child>) -> io::Result<bool> {
    let deadline = children.values().filter(|child| !child.is_killed).filter_map(|child| child.kill_at).min();
    let mut fds: Vec<_> = children.values().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)).collect();
    // One that is killed says so until it is reaped, too.
    let alive = children.iter().filter(|(_, child)| !child.is_killed);
    fds.extend(alive.clone().map(|(_, child)| PollFd::new(&child.status, PollFlags::RDHUP)));
    fds.extend(channel.map(|channel| PollFd::new(channel, PollFlags::IN)));
    poll_until(&mut fds, deadline)?;
    let (exits, ends) = fds.split_at(children.len());
    let has_exited = exits.iter().any(|exit| !exit.revents().is_empty());
    let now = Instant::now();
    let is_due = |child: &Child| child.kill_at.is_some_and(|at| at <= now);
    let doomed = alive.zip(ends).filter(|((_, child), end)| !end.revents().is_empty() || is_due(child));
    let doomed: Vec<Pid> = doomed.map(|((pid, _), _)| *pid).collect();
    for pid in doomed {
        let _ = kill_process(pid, Signal::KILL);
        children.entry(pid).and_modify(|child| child.is_killed = true);
    }
    Ok(has_exited)
}

/// Collects the children that have exited. There may be others beside those that were forked here: where this is
/// the first process of its namespace it inherits orphans.
fn reap(children: &mut HashMap<Pid, Child>) {
    while let Ok(Some((pid, ended))) = waitpid(None, WaitOptions::NOHANG) {
        if let Some(child) = children.remove(&pid) {
            child.ended(ended);
        }
    }
}

/// Says that there is no process for a request.
fn refuse(status: &OwnedFd, reason: String) {
    take_untaken(status);
    // A host that has gone need not know.
    let _ = send(status, &Report::Refused(reason), &[]);
}

/// Nobody is to take the request for one that was never begun with.
fn take_untaken(status: &OwnedFd) {
    let _ = rustix::net::recv(status, &mut [0; 1][..], RecvFlags::DONTWAIT | RecvFlags::TRUNC);
}

impl Child {
    /// Says what it died of, if it did not exit as it should.
    fn ended(self, ended: WaitStatus) {
        let (status, signal) = (ended.exit_status(), ended.terminating_signal());
        if status != Some(0) {
            take_untaken(&self.status);
            let _ = send(&self.status, &Report::Died { status, signal }, &[]);
        }
    }
}
