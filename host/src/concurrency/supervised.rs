//! A fork server of one version, kept alive, and the jobs that it was given.
//!
//! The listening socket stays with the host and is never closed: while a fork server that died is started again,
//! clients wait. What the dead one had not taken yet is given to the new one; what it had taken goes on in
//! its children.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::error::{Phase, RequestError};
use crate::fork_server::{FromServer, Setup, ToServer, WireRequest};
use crate::helper_process::{self, Channel, Role};
use crate::server::Job;
use crate::slot::Drain;
use crate::wake::poll_until;

/// The first pause before a fork server that died is started again; it doubles up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A fork server that has lived so long did not die of its start.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// How long a fork server may take until it can serve.
const START_TIME: Duration = Duration::from_secs(30);

/// What becomes of a request that no fork server will take any more.
const CLOSED: &str = "its server has been dropped";

/// What a fork server is started with.
#[derive(Debug)]
pub(crate) struct ForkSetup {
    pub(crate) setup: Setup,
    /// The precompiled handler.
    pub(crate) code: OwnedFd,
    /// A datagram server's socket, which children reply through.
    pub(crate) datagram_socket: Option<Arc<OwnedFd>>,
    /// What tells children that their version drains.
    pub(crate) drain: Option<Arc<Drain>>,
}

/// A fork server that is started again whenever it dies. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ForkServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fork_setup: ForkSetup,
    /// Arguments with which this executable becomes the fork server.
    arguments: Vec<OsString>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The living fork server; `None` while there is none.
    link: Option<Arc<Link>>,
    /// Those of fork servers that died, whose children go on.
    former: Vec<Weak<Link>>,
    /// Jobs that wait for a fork server.
    waiting: Vec<Job>,
    is_closed: bool,
}

/// One fork server's channel, and the jobs it was given. It outlives its server as long as children do.
#[derive(Debug)]
struct Link {
    channel: Channel,
    jobs: Mutex<Jobs>,
}

/// By the ids of their requests.
type Jobs = HashMap<u64, Given>;

#[derive(Debug)]
struct Given {
    job: Job,
    is_taken: bool,
    /// Whether a child serves it.
    is_begun: bool,
    outcome: Option<Result<(), RequestError>>,
}

impl ForkServer {
    /// Starts the process, and waits until it can serve.
    pub(super) fn start(fork_setup: ForkSetup, arguments: Vec<OsString>) -> io::Result<Self> {
        if !helper_process::can_be_started() {
            return Err(io::Error::other(
                "this program must call plugsock::become_helper_process_if_asked() first in its main",
            ));
        }
        let state = State { link: None, former: Vec::new(), waiting: Vec::new(), is_closed: false };
        let shared = Arc::new(Shared { fork_setup, arguments, state: Mutex::new(state) });
        let process = shared.start_fork_server()?;
        let supervisor = shared.clone();
        thread::Builder::new()
            .name("fork-supervisor".to_owned())
            .spawn(move || supervisor.supervise(process))?;
        Ok(Self { shared })
    }

    pub(super) fn process_request(&self, job: Job) {
        self.shared.give(job);
    }

    /// Kills the children that still serve, and ends what was cut off before it had one.
    pub(super) fn cut_all(&self) {
        let mut state = self.shared.state();
        if let Some(link) = &state.link {
            let _ = link.channel.send(&ToServer::KillAll, &[]);
        }
        // The children of a fork server that died end when they find their channel closed.
        state.former.iter().filter_map(Weak::upgrade).for_each(|link| link.close());
        let cut: Vec<_> = state.waiting.extract_if(.., |job| job.is_cut_off()).collect();
        drop(state);
        for job in cut {
            job.end_elsewhere(Err(RequestError::host(
                Phase::Instantiate,
                "no fork server took it".to_owned(),
            )));
        }
    }

    /// Ends the process, which ends when its channel does.
    pub(super) fn close(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let link = state.link.take();
        let waiting = std::mem::take(&mut state.waiting);
        // A job that ends may be the last that holds this fork server.
        drop(state);
        if let Some(link) = link {
            link.close();
        }
        waiting.into_iter().for_each(|job| job.refuse(CLOSED));
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, job: Job) {
        let mut state = self.state();
        if state.is_closed {
            drop(state);
            return job.refuse(CLOSED);
        }
        let Some(link) = state.link.clone() else { return state.waiting.push(job) };
        let request = job.request().clone();
        let id = request.id();
        // Known before it is sent: the answer may come before `send` returns.
        link.jobs().insert(id, Given { job, is_taken: false, is_begun: false, outcome: None });
        let socket = request.stream_socket();
        let fds: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
        let sent = link.channel.send(&ToServer::Serve(WireRequest::of(&request)), &fds);
        // A fork server that has just died has a successor soon.
        if sent.is_err() {
            let given = link.jobs().remove(&id);
            state.waiting.extend(given.map(|given| given.job));
        }
    }

    /// Starts the process and gives it what waits. A closed one ends again at once.
    fn start_fork_server(self: &Arc<Self>) -> io::Result<Child> {
        let (channel, mut process) = helper_process::start(Role::ForkServer, &self.arguments)?;
        let link = self.set_up(channel).inspect_err(|_| {
            let _ = process.kill();
            let _ = process.wait();
        })?;
        let mut state = self.state();
        if state.is_closed {
            link.close();
            return Ok(process);
        }
        state.link = Some(link);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|job| self.give(job));
        Ok(process)
    }

    /// Tells a new fork server what to serve, and waits until it can.
    fn set_up(&self, channel: Channel) -> io::Result<Arc<Link>> {
        let ForkSetup { setup, code, datagram_socket, drain } = &self.fork_setup;
        let fds = [
            Some(code.as_fd()),
            datagram_socket.as_ref().map(AsFd::as_fd),
            drain.as_ref().map(|drain| drain.as_fd()),
        ];
        let fds: Vec<_> = fds.into_iter().flatten().collect();
        channel.send(&ToServer::Setup(Box::new(setup.clone())), &fds)?;
        let mut fds = [PollFd::new(&channel, PollFlags::IN)];
        if !poll_until(&mut fds, Some(Instant::now() + START_TIME))? {
            return Err(io::Error::other(format!("the fork server was not ready in {START_TIME:?}")));
        }
        match channel.recv()? {
            Some((FromServer::Ready(Ok(())), _)) => {}
            Some((FromServer::Ready(Err(reason)), _)) => return Err(io::Error::other(reason)),
            _ => return Err(io::Error::other("the fork server ended before it could serve")),
        }
        let link = Arc::new(Link { channel, jobs: Mutex::default() });
        let follower = link.clone();
        thread::Builder::new().name("fork-link".to_owned()).spawn(move || follower.follow())?;
        Ok(link)
    }

    /// Starts the fork server again whenever it dies, until the strategy is dropped.
    fn supervise(self: Arc<Self>, mut process: Child) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let status = process.wait();
            let link = self.state().link.take();
            // Not under the lock: what has ended may have been the last that held this fork server.
            let untaken = link.as_ref().map(|link| link.take_untaken()).unwrap_or_default();
            link.iter().for_each(|link| link.end_lost());
            let mut state = self.state();
            if state.is_closed {
                drop(state);
                return untaken.into_iter().for_each(|job| job.refuse(CLOSED));
            }
            state.waiting.extend(untaken);
            state.former.retain(|link| link.strong_count() > 0);
            state.former.extend(link.as_ref().map(Arc::downgrade));
            drop(state);
            match status {
                Ok(status) => tracing::error!("the fork server died ({status}); starting another"),
                Err(error) => tracing::error!("the fork server is lost ({error}); starting another"),
            }
            if started.elapsed() >= SOUND_AFTER {
                pause = FIRST_PAUSE;
            }
            process = loop {
                match self.start_fork_server() {
                    Ok(process) => break process,
                    Err(error) => tracing::error!("cannot start the fork server: {error}; trying again"),
                }
                thread::sleep(pause);
                pause = (2 * pause).min(LAST_PAUSE);
                if self.state().is_closed {
                    return;
                }
            };
        }
    }
}

impl Link {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes both sides see the end of the channel.
    fn close(&self) {
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
    }

    /// Follows what becomes of the jobs, until the fork server and all its children are gone.
    fn follow(&self) {
        let mut is_open = true;
        while is_open {
            let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
            is_open = poll_until(&mut fds, None).is_ok() && self.read();
        }
        // What was not taken is for the supervisor, which may not know yet that the fork server is dead.
        let left: Vec<_> = self.jobs().extract_if(|_, given| given.is_taken).collect();
        for (_, given) in left {
            given.job.end_elsewhere(given.outcome.unwrap_or_else(lost));
        }
    }

    /// Reads what has been said so far; `false` if that was the last.
    fn read(&self) -> bool {
        let mut ended = Vec::new();
        // Locked from reading to noting: whoever finds a job not taken can rely on it.
        let mut jobs = self.jobs();
        let is_open = loop {
            match self.channel.try_recv() {
                Ok(Some((message, _))) => ended.extend(note(&mut jobs, message)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Ok(None) | Err(_) => break false,
            }
        };
        drop(jobs);
        for (job, end) in ended {
            match end {
                End::Served(outcome) => job.end_elsewhere(outcome),
                End::Refused(reason) => job.refuse(&reason),
            }
        }
        is_open
    }

    /// The jobs that a dead fork server left untouched.
    fn take_untaken(&self) -> Vec<Job> {
        self.read();
        let mut jobs = self.jobs();
        jobs.extract_if(|_, given| !given.is_taken).map(|(_, given)| given.job).collect()
    }

    /// Ends the jobs for which a dead fork server made no child: other children may keep the channel open for long.
    /// A child that has not yet said that it is there serves its client all the same.
    fn end_lost(&self) {
        let lost_jobs: Vec<_> = self.jobs().extract_if(|_, given| !given.is_begun).collect();
        lost_jobs.into_iter().for_each(|(_, given)| given.job.end_elsewhere(lost()));
    }
}

fn lost() -> Result<(), RequestError> {
    Err(RequestError::host(Phase::Handle, "the fork server died".to_owned()))
}

/// How a job ended.
enum End {
    Served(Result<(), RequestError>),
    /// For want of a process.
    Refused(String),
}

/// Notes what was said of a job; the job and how it ended, if that was its end.
fn note(jobs: &mut Jobs, message: FromServer) -> Option<(Job, End)> {
    match message {
        FromServer::Taken(id) => jobs.get_mut(&id)?.is_taken = true,
        FromServer::Begun(id) => jobs.get_mut(&id)?.is_begun = true,
        FromServer::Outcome(id, outcome) => jobs.get_mut(&id)?.outcome = Some(outcome),
        FromServer::Exited { id, status, signal } => {
            let given = jobs.remove(&id)?;
            let died = || {
                let how = match signal {
                    Some(signal) => format!("was killed by signal {signal}"),
                    None => format!("exited with status {}", status.unwrap_or_default()),
                };
                Err(RequestError::host(Phase::Handle, format!("its process {how}")))
            };
            return Some((given.job, End::Served(given.outcome.unwrap_or_else(died))));
        }
        FromServer::Refused(id, reason) => return Some((jobs.remove(&id)?.job, End::Refused(reason))),
        FromServer::Ready(_) => {}
    }
    None
}
