//! A fork server of one version, kept alive.
//!
//! The listening socket stays with the host and is never closed: while a fork server that died is started again,
//! clients wait. What nobody has begun with comes back and is given to the new one; what was begun goes on in its process.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{Shutdown, shutdown};

use crate::child_process::ChildProcess;
use crate::events::{EventKind, emit};
use crate::fork_server::{Ready, Setup, ToForkServer};
use crate::helper_process::{self, Channel, Role, log_filter, send_now};
use crate::request::Request;
use crate::sandbox::Drain;
use crate::wake::poll_until;

/// The pauses before a fork server is started again that has not lived for long: the first, doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A fork server that has lived so long did not die of its start.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// How long a fork server may take until it can serve.
const START_TIME: Duration = Duration::from_secs(30);

/// What a fork server is started with.
#[derive(Debug)]
pub(super) struct ForkSetup {
    pub(super) setup: Setup,
    /// The precompiled handler.
    pub(super) code: OwnedFd,
    /// A datagram server's socket, which children reply through.
    pub(super) datagram_socket: Option<Arc<OwnedFd>>,
    /// What tells children that their server takes no further requests.
    pub(super) closing: Arc<Drain>,
    /// What tells children that their version drains.
    pub(super) drain: Option<Arc<Drain>>,
    /// Counts those that have died.
    pub(super) deaths: Arc<AtomicU64>,
}

/// Those of all servers and versions, for [`renew_stderr`].
static ALL: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Weak<Shared>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives fork servers that run, and what they fork from now on, the standard error that those have which are started now.
pub(crate) fn renew_stderr() {
    let shared: Vec<_> = all().iter().filter_map(Weak::upgrade).collect();
    let Ok(Some(stderr)) = helper_process::stderr() else { return };
    for shared in shared {
        if let Some(channel) = &shared.state().channel {
            // One that has too much to read goes on with what it has.
            let _ = send_now(channel, &ToForkServer::LogTo, &[stderr.as_fd()]);
        }
    }
}

/// A fork server that is started again whenever it dies. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct SupervisedForkServer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fork_setup: ForkSetup,
    /// Arguments with which this executable becomes the fork server.
    arguments: Vec<OsString>,
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// To the living fork server; `None` while there is none.
    channel: Option<Channel>,
    /// How many fork servers there have been, with that one.
    number: u64,
    /// What waits for a fork server.
    waiting: Vec<Errand>,
    is_closed: bool,
}

/// A request on its way to a process.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) request: Arc<Request>,
    /// The child's end of its status socket.
    pub(super) status: OwnedFd,
    /// The number of the fork server that has it; 0 while it waits for one.
    pub(super) given_to: Arc<AtomicU64>,
}

impl SupervisedForkServer {
    /// Starts the process, and waits until it can serve.
    pub(super) fn start(fork_setup: ForkSetup, arguments: Vec<OsString>) -> io::Result<Self> {
        if !helper_process::can_be_started() {
            return Err(io::Error::other(
                "this program must call plugsock::become_helper_process_if_asked() first in its main",
            ));
        }
        let (state, closed) = Default::default();
        let shared = Arc::new(Shared { fork_setup, arguments, state, closed });
        // First: a process that is started meanwhile has what it is given now.
        let mut all = all();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&shared));
        drop(all);
        let process = shared.start_process()?;
        let supervisor = shared.clone();
        thread::Builder::new()
            .name("fork-supervisor".to_owned())
            .spawn(move || supervisor.supervise(process))?;
        Ok(Self(shared))
    }

    /// Has a process forked for a request; what becomes of it shows at its status socket alone.
    pub(super) fn give(&self, errand: Errand) {
        self.0.state().give(errand);
    }

    /// Has no more to do with this fork server, which is about to end: what it is given is lost.
    pub(super) fn abandon(&self, number: u64) {
        let mut state = self.0.state();
        let is_current = state.number == number;
        if let Some(channel) = state.channel.take_if(|_| is_current) {
            drop(state);
            let _ = shutdown(&channel, Shutdown::Both);
        }
    }

    /// Gives up a request that still waits for a fork server.
    pub(super) fn withdraw(&self, request: u64) {
        let mut state = self.0.state();
        let withdrawn: Vec<_> =
            state.waiting.extract_if(.., |errand| errand.request.id() == request).collect();
        drop(state);
        drop(withdrawn);
    }

    /// Ends the process, which ends when its channel does. Children go on.
    pub(super) fn close(&self) {
        let mut state = self.0.state();
        state.is_closed = true;
        let (channel, waiting) = (state.channel.take(), std::mem::take(&mut state.waiting));
        drop(state);
        self.0.closed.notify_all();
        if let Some(channel) = channel {
            let _ = shutdown(&channel, Shutdown::Both);
        }
        drop(waiting);
    }

    pub(super) fn is_running(&self) -> bool {
        self.0.state().channel.is_some()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.state().is_closed
    }
}

impl Drop for SupervisedForkServer {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn give(&mut self, errand: Errand) {
        if self.is_closed {
            return;
        }
        let connection = errand.request.stream_socket();
        let fds: Vec<_> = [errand.status.as_fd()].into_iter().chain(connection).collect();
        errand.given_to.store(self.number, SeqCst);
        // A fork server that has just died has a successor soon.
        let is_sent =
            self.channel.as_ref().is_some_and(|channel| channel.send(&ToForkServer::Serve, &fds).is_ok());
        if !is_sent {
            errand.given_to.store(0, SeqCst);
            self.waiting.push(errand);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process and gives it what waits. Where this was closed meanwhile it ends again at once.
    fn start_process(&self) -> io::Result<ChildProcess> {
        let (channel, mut process) = helper_process::start(Role::ForkServer, &self.arguments)?;
        self.set_up(&channel).inspect_err(|_| {
            process.kill();
            process.wait();
        })?;
        let mut state = self.state();
        if !state.is_closed {
            state.channel = Some(channel);
            state.number += 1;
            self.tell(process.id(), |address, generation, digest, pid| EventKind::ForkServerStarted {
                address,
                generation,
                digest,
                pid,
            });
            let waiting = std::mem::take(&mut state.waiting);
            waiting.into_iter().for_each(|errand| state.give(errand));
        }
        Ok(process)
    }

    /// Tells a new fork server what to serve, and waits until it can.
    fn set_up(&self, channel: &Channel) -> io::Result<()> {
        let ForkSetup { setup, code, datagram_socket, closing, drain, .. } = &self.fork_setup;
        let setup = setup.to_file()?;
        let log_filter = log_filter::to_follow()?;
        let fds = [
            Some(setup.as_fd()),
            Some(code.as_fd()),
            Some(log_filter.as_fd()),
            datagram_socket.as_ref().map(AsFd::as_fd),
            Some(closing.as_fd()),
            drain.as_ref().map(|drain| drain.as_fd()),
        ];
        let fds: Vec<_> = fds.into_iter().flatten().collect();
        channel.send(&ToForkServer::Setup, &fds)?;
        let mut fds = [PollFd::new(channel, PollFlags::IN)];
        if !poll_until(&mut fds, Some(Instant::now() + START_TIME))? {
            return Err(io::Error::other(format!("the fork server was not ready in {START_TIME:?}")));
        }
        match channel.recv::<Ready>()? {
            Some((ready, _)) => ready.map_err(io::Error::other),
            None => Err(io::Error::other("the fork server ended before it could serve")),
        }
    }

    /// Starts the fork server again whenever it dies, until this is closed.
    fn supervise(&self, mut process: ChildProcess) {
        let mut pause = Duration::ZERO;
        loop {
            let started = Instant::now();
            let ended = process.wait();
            let mut state = self.state();
            state.channel = None;
            if state.is_closed {
                return;
            }
            drop(state);
            self.tell_ended(process.id(), ended);
            self.fork_setup.deaths.fetch_add(1, SeqCst);
            match ended {
                Some(status) => tracing::error!("the fork server died ({status}); starting another"),
                // Somebody else has its status.
                None => tracing::error!("the fork server died; starting another"),
            }
            if started.elapsed() >= SOUND_AFTER {
                pause = Duration::ZERO;
            }
            process = loop {
                if self.is_closed_within(pause) {
                    return;
                }
                pause = (2 * pause).clamp(FIRST_PAUSE, LAST_PAUSE);
                match self.start_process() {
                    Ok(process) => break process,
                    Err(error) => tracing::error!("cannot start the fork server: {error}; trying again"),
                }
            };
        }
    }

    /// Tells those who follow events of a process of this fork server.
    fn tell(&self, pid: u32, event: impl FnOnce(String, u64, String, u32) -> EventKind) {
        let Setup { info, generation, digest, .. } = &self.fork_setup.setup;
        emit(|| event(info.address().to_string(), *generation, digest.clone(), pid));
    }

    fn tell_ended(&self, pid: u32, ended: Option<ExitStatus>) {
        self.tell(pid, |address, generation, digest, pid| {
            let reason = ended.map_or("unknown".to_owned(), |status| status.to_string());
            EventKind::ForkServerEnded { address, generation, digest, pid, reason }
        });
    }

    fn is_closed_within(&self, time: Duration) -> bool {
        let waited = self.closed.wait_timeout_while(self.state(), time, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }
}
