//! The requests that are served in processes, and what becomes of them: one thread for all of a server's.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{self, Waker};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFlags, epoll};
use rustix::io::Errno;

use super::supervised::{Errand, SupervisedForkServer};
use crate::admission::Room;
use crate::error::{Phase, RequestError, is_exhausted};
use crate::fork_server::{Operating, Report, Status, StatusSocket};
use crate::helper_process::message_buffer;
use crate::job::{Job, isolated};
use crate::taken::Taken;
use crate::tls::{Answering, Ask, AskedTooMuch, Keeper};
use crate::wake::{Wake, is_ready};

/// How many fork servers may die of a request, before a child of theirs has taken it, until it is given up.
const TRIES: u8 = 3;

/// How long a request waits for descriptors before it looks for them again, unless another ends.
const PAUSE: Duration = Duration::from_millis(100);

/// The wake's own mark in the `epoll` set. Requests are numbered from 1.
const WAKE: u64 = 0;

/// Follows the requests that were given to fork servers until their processes have ended.
#[derive(Debug)]
pub(super) struct Children {
    /// What versions keep their fork servers for this server under.
    server: u64,
    /// Holds the wake and the status sockets.
    epoll: OwnedFd,
    wake: Wake,
    is_closed: AtomicBool,
    /// By the ids of their requests.
    table: Mutex<HashMap<u64, Child>>,
    /// One is gone from the table.
    ended: Condvar,
}

/// A request, and the process that serves it or will.
#[derive(Debug)]
struct Child {
    job: Job,
    /// What has come by its connection before.
    received: Vec<u8>,
    status: Arc<StatusSocket>,
    fork_server: Weak<SupervisedForkServer>,
    /// The number of the fork server that has it.
    given_to: Arc<AtomicU64>,
    /// Whether it is known how it went.
    is_reported: bool,
    /// How often it was given to a fork server.
    tries: u8,
    /// What answers its process in a TLS handshake.
    tls: Option<Answering>,
    /// What runs its operations on stores.
    operating: Operating,
    /// Its process has asked, so that it has begun; what is unread may be an answer.
    has_asked: bool,
    /// It has handed a core dump over, as it may once for each request.
    has_dumped_core: bool,
    /// How many requests of HTTP it has reported.
    exchanged: u64,
    /// For those that it has at once, but one.
    rooms: Vec<Room>,
}

impl Children {
    pub(super) fn start(server: u64) -> io::Result<Arc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = Wake::new()?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let (is_closed, table, ended) = Default::default();
        let children = Arc::new(Self { server, epoll, wake, is_closed, table, ended });
        let follower = children.clone();
        thread::Builder::new().name("forking".to_owned()).spawn(move || follower.follow())?;
        Ok(children)
    }

    /// The thread ends when it has no request left.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
        self.wake.wake();
    }

    /// Has a request served in a process. Where there are no descriptors for it, waits until others have ended.
    pub(super) fn serve(&self, job: Job) {
        let Some(fork_server) = self.fork_server(&job) else { return refuse_unforked(job) };
        loop {
            match StatusSocket::open(job.request(), &[], job.trace_context()) {
                Err(error) if is_exhausted(&error) && !job.is_cut_off() => {
                    drop(self.ended.wait_timeout(self.table(), PAUSE));
                }
                opened => return self.give(job, Vec::new(), opened, &fork_server, 1),
            }
        }
    }

    /// The one of the version that serves it.
    fn fork_server(&self, job: &Job) -> Option<Arc<SupervisedForkServer>> {
        job.version().kept_for(self.server)
    }

    /// Has a connection served on by the version that serves now.
    fn serve_on(&self, mut job: Job, received: Vec<u8>) {
        if !job.renew() {
            return job.refuse("what serves now does not speak HTTP");
        }
        let Some(fork_server) = self.fork_server(&job) else { return refuse_unforked(job) };
        let opened = StatusSocket::open(job.request(), &received, None);
        self.give(job, received, opened, &fork_server, 1);
    }

    fn give(
        &self,
        job: Job,
        received: Vec<u8>,
        opened: io::Result<(StatusSocket, OwnedFd)>,
        fork_server: &Arc<SupervisedForkServer>,
        tries: u8,
    ) {
        let id = job.id();
        let (status, theirs) = match opened {
            Ok((status, theirs)) => (Arc::new(status), theirs),
            Err(error) => return job.refuse(&format!("no socket to its process: {error}")),
        };
        let given_to = Arc::<AtomicU64>::default();
        let request = job.request().clone();
        let errand = Errand { request, status: theirs, given_to: given_to.clone() };
        let fork_server_of = Arc::downgrade(fork_server);
        let cut_off = CutOff { id, status: Arc::downgrade(&status), fork_server: fork_server_of.clone() };
        job.wake_on_cut(Waker::from(Arc::new(cut_off)));
        let tls = job.request().tls_keeper().and_then(Keeper::answering);
        let child = Child {
            job,
            received,
            status: status.clone(),
            fork_server: fork_server_of,
            given_to,
            is_reported: false,
            tries,
            tls,
            operating: Operating::default(),
            has_asked: false,
            has_dumped_core: false,
            exchanged: 0,
            rooms: Vec::new(),
        };
        // Known before it is given: the answer may come before that returns.
        self.table().insert(id, child);
        match epoll::add(&self.epoll, &*status, epoll::EventData::new_u64(id), epoll::EventFlags::IN) {
            Ok(()) => fork_server.give(errand),
            Err(error) => {
                let child = self.table().remove(&id);
                child
                    .into_iter()
                    .for_each(|child| child.job.refuse(&format!("cannot follow its process: {error}")));
            }
        }
    }

    fn follow(&self) {
        let mut buffer = message_buffer();
        while !(self.is_closed.load(SeqCst) && self.table().is_empty()) {
            let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
            let events = match epoll::wait(&self.epoll, &mut events, None) {
                Ok((events, _)) => events,
                Err(Errno::INTR) => continue,
                Err(error) => return tracing::error!("processes of requests cannot be followed: {error}"),
            };
            for event in events {
                match event.data.u64() {
                    WAKE => self.wake.clear(),
                    id => {
                        // Not under the lock: hooks may run, and what ends may be the last of its version.
                        let child = self.table().remove(&id);
                        isolated("ending a request", || self.look_at(id, child, &mut buffer));
                        self.ended.notify_all();
                    }
                }
            }
        }
    }

    /// Reads what was said of a request, and ends it if that was the last.
    fn look_at(&self, id: u64, child: Option<Child>, buffer: &mut [u8]) {
        let Some(mut child) = child else { return };
        loop {
            match child.status.read(buffer) {
                Status::Said(report @ (Report::Tls(_) | Report::State(_) | Report::MoreRoom), file) => {
                    if child.asked(report, file).is_err() {
                        // Its fork server kills it, and until then it keeps nobody from others'.
                        child.status.call_off();
                        if !self.mute(id, &child) {
                            return child.ended();
                        }
                        break;
                    }
                }
                Status::Said(Report::CoreDump(phase), Some(dump)) if child.may_dump_core() => {
                    child.has_dumped_core = true;
                    child.job.core_dumped(phase, dump);
                }
                Status::Said(Report::Exchanged(served, latency, taken), _) if child.may_exchange() => {
                    child.exchanged += 1;
                    (child.has_asked, child.has_dumped_core) = (true, false);
                    child.job.exchanged(served, latency, taken);
                }
                Status::Said(Report::LessRoom, _) => drop(child.rooms.pop()),
                Status::Said(Report::HandedBack(received, taken), _) if child.may_exchange() => {
                    child.job.take_in(&taken);
                    return self.serve_on(child.job, received);
                }
                Status::Said(report, _) if !child.is_reported && report.is_the_end() => {
                    child.reported(report)
                }
                Status::Open => break,
                Status::Untaken if !child.is_reported && !child.has_asked && !child.job.is_cut_off() => {
                    return self.give_anew(child);
                }
                Status::Untaken | Status::End if is_ready(child.status.as_fd(), PollFlags::empty()) => {
                    return child.ended();
                }
                // It has no more to say that matters, and goes on all the same.
                Status::Said(..) | Status::Nonsense | Status::Untaken | Status::End => {
                    if !self.mute(id, &child) {
                        return child.ended();
                    }
                    break;
                }
            }
        }
        self.table().insert(id, child);
    }

    /// From here on its end alone is looked for; whether that can be.
    fn mute(&self, id: u64, child: &Child) -> bool {
        let data = epoll::EventData::new_u64(id);
        epoll::modify(&self.epoll, &*child.status, data, epoll::EventFlags::empty()).is_ok()
    }

    /// The fork server that it was given to has died, and nobody has begun with it.
    fn give_anew(&self, child: Child) {
        let fork_server = child.fork_server.upgrade().filter(|fork_server| !fork_server.is_closed());
        if let Some(fork_server) = &fork_server {
            // Also if this one is given up: the next is not to die of the same death.
            fork_server.abandon(child.given_to.load(SeqCst));
        }
        match fork_server.filter(|_| child.tries < TRIES) {
            Some(fork_server) => {
                let trace = child.job.trace_context();
                let opened = StatusSocket::open(child.job.request(), &child.received, trace);
                self.give(child.job, child.received, opened, &fork_server, child.tries + 1);
            }
            None => child.job.refuse("no fork server lives to take it"),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Child>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    fn asked(&mut self, report: Report, file: Option<OwnedFd>) -> Result<(), AskedTooMuch> {
        self.has_asked = true;
        match report {
            _ if self.is_reported => Err(AskedTooMuch),
            Report::Tls(ask) => self.asked_for_tls(ask),
            Report::State(asked) => {
                let version = self.job.version();
                self.operating.asked(asked, file, version.handler.sandbox(), &self.status)
            }
            Report::MoreRoom => self.asked_for_room(),
            _ => unreachable!("it asks for nothing"),
        }
    }

    fn asked_for_room(&mut self) -> Result<(), AskedTooMuch> {
        if !(self.job.speaks_http() && self.rooms.len() < self.job.streams_max()) {
            return Err(AskedTooMuch);
        }
        let room = self.job.more_room();
        // A child that does not read its answers goes without.
        if self.status.answer(&room.is_some(), &[]).is_ok() {
            self.rooms.extend(room);
        }
        Ok(())
    }

    fn asked_for_tls(&mut self, ask: Ask) -> Result<(), AskedTooMuch> {
        let tls = self.tls.as_mut().ok_or(AskedTooMuch)?;
        if let Some(answer) = tls.answer(ask)? {
            // A child that does not read its answers goes without.
            let _ = self.status.answer(&answer, &[]);
        }
        tls.take_info().into_iter().for_each(|info| self.job.request().note_protection(info));
        Ok(())
    }

    /// Whether it may go on to say how requests of HTTP went.
    fn may_exchange(&self) -> bool {
        !self.is_reported && self.job.speaks_http() && self.exchanged < self.job.exchanges_max()
    }

    fn may_dump_core(&self) -> bool {
        !self.is_reported && !self.has_dumped_core
    }

    fn reported(&mut self, report: Report) {
        self.is_reported = true;
        let failed = |reason: String| Err(RequestError::host(Phase::Handle, reason));
        let served = match report {
            Report::Served(served, taken) => return self.job.served_elsewhere(served, taken),
            Report::Died { signal: Some(signal), .. } => {
                failed(format!("its process was killed by signal {signal}"))
            }
            Report::Died { status, .. } => {
                failed(format!("its process exited with status {}", status.unwrap_or_default()))
            }
            Report::Refused(reason) => return self.job.end_refused(&reason),
            Report::HandedBack(..) => failed("its process has handed back what it had not to".to_owned()),
            Report::Tls(_)
            | Report::State(_)
            | Report::MoreRoom
            | Report::LessRoom
            | Report::CoreDump(_)
            | Report::Exchanged(..) => {
                unreachable!("it is no end")
            }
        };
        self.job.served_elsewhere(served, Taken::default());
    }

    /// Its process is done with the connection.
    fn ended(mut self) {
        if !self.is_reported {
            let reason = "its process ended without a word".to_owned();
            let served = Err(RequestError::host(Phase::Handle, reason));
            self.job.served_elsewhere(served, Taken::default());
        }
    }
}

fn refuse_unforked(job: Job) {
    job.refuse("its version has no fork server");
}

/// Has whoever serves a request, or will, give it up.
struct CutOff {
    id: u64,
    status: Weak<StatusSocket>,
    fork_server: Weak<SupervisedForkServer>,
}

impl task::Wake for CutOff {
    fn wake(self: Arc<Self>) {
        if let Some(status) = self.status.upgrade() {
            status.call_off();
        }
        if let Some(fork_server) = self.fork_server.upgrade() {
            fork_server.withdraw(self.id);
        }
    }
}
