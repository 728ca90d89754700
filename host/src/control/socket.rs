//! The listening end: who may connect, and how many at once.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags};
use socket2::{Socket, Type};

use super::protocol::{Refusal, RefusalKind};
use super::session::Session;
use super::{Controlled, directory, session};
use crate::address::{ServeAddress, ServerType, UnixAddress};
use crate::error::BindError;
use crate::listener::{HandedSocket, SocketFile, UnixSocketOptions, bind_unix};
use crate::wake::{Wake, is_ready, poll_until};

/// As many clients may be connected at once.
const CLIENTS_MAX: usize = 16;

/// How long those who follow events may take to be told of the end, and those who have just come to be answered.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// How long accepting pauses when it failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A control socket that is bound, and not served yet: clients wait.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    socket: Socket,
    /// Removes the socket when it is dropped.
    file: SocketFile,
    /// Whether somebody chose the path.
    is_named: bool,
    /// Readable when nobody is taken on any more.
    stopped: Arc<Wake>,
}

impl ControlSocket {
    /// Binds a path; the file of a server that died is replaced. Its user alone may connect.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let path = std::path::absolute(path)?;
        let stopped = Arc::new(Wake::new()?);
        let name = UnixAddress::Path(path.clone());
        let bind = || {
            let options = UnixSocketOptions { mode: Some(0o600), ..UnixSocketOptions::default() };
            let (socket, file) = bind_unix(&name, Type::STREAM, &options)?;
            socket.set_nonblocking(true)?;
            socket.listen(CLIENTS_MAX as i32)?;
            Ok((socket, file.expect("a path has a file")))
        };
        let (socket, file) = bind().map_err(|error| {
            BindError::new(
                &ServeAddress::with_bound(ServerType::UnixStream, false, &name.clone().into()),
                error,
            )
        })?;
        Ok(Self { path, socket, file, is_named: true, stopped })
    }

    /// Takes over the socket that the process before this one had at a path.
    pub fn take_over(path: &Path, handed: HandedSocket) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let lock = handed.lock.ok_or_else(|| io::Error::other("its lock is missing"))?;
        let file = SocketFile::adopt(path.clone(), lock);
        let stopped = Arc::new(Wake::new()?);
        Ok(Self { path, socket: handed.socket.into(), file, is_named: true, stopped })
    }

    /// What another process needs to take it over.
    pub(crate) fn hand_out(&self) -> io::Result<HandedSocket> {
        Ok(HandedSocket { socket: self.socket.try_clone()?.into(), lock: Some(self.file.lock()?) })
    }

    /// Whether it has a path of its own, which other processes may use too.
    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// Says whether its file goes with it or belongs to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        self.file.set_owned(is_owned);
    }

    /// Takes nobody on any more: another process does, which has the same socket.
    pub(crate) fn stop(&self) {
        self.stopped.wake();
    }

    /// Binds the path where [`find_control_socket`](super::find_control_socket) finds this process by itself.
    pub fn bind_default() -> Result<Self, BindError> {
        let directory = directory::make_own()?;
        directory::remove_stale();
        let socket = Self::bind(&directory::socket_in(&directory, std::process::id()))?;
        Ok(Self { is_named: false, ..socket })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does what clients ask for, on threads of its own, until what this returns is dropped.
    pub fn serve(self: Arc<Self>, host: Arc<dyn Controlled>) -> io::Result<ControlServer> {
        let (closing, stopped) = (Arc::new(Wake::new()?), self.stopped.clone());
        let (untold, all_told) = bounded(0);
        let untold = Arc::new(untold);
        let session = Session {
            host,
            since: Instant::now(),
            closing: closing.clone(),
            untold: Arc::downgrade(&untold),
        };
        let accepting = Accepting { socket: self, session, clients: Arc::default() };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || accepting.run())?;
        Ok(ControlServer { closing, stopped, thread: Some(thread), untold: Some(untold), all_told })
    }
}

/// A control socket that is served. Dropping it lets go of the socket; a command under way goes on.
#[derive(Debug)]
pub struct ControlServer {
    closing: Arc<Wake>,
    stopped: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
    /// Those who follow events have it, too, and those who have come and have not been answered yet.
    untold: Option<Arc<Sender<Infallible>>>,
    /// Says that nobody has it any more.
    all_told: Receiver<Infallible>,
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stopped.wake();
        self.closing.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // They hear of the end, if they listen.
        drop(self.untold.take());
        let _ = self.all_told.recv_timeout(FAREWELL_TIME);
    }
}

struct Accepting {
    socket: Arc<ControlSocket>,
    session: Session,
    clients: Arc<AtomicUsize>,
}

impl Accepting {
    fn run(&self) {
        while !is_ready(self.socket.stopped.as_fd(), PollFlags::IN) {
            let accepted = match self.socket.socket.accept() {
                Ok((connection, _)) => self.greet(connection),
                Err(error) => Err(error),
            };
            match accepted {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(true, None),
                Err(error) => {
                    tracing::warn!("cannot take on a client of the control socket: {error}");
                    self.wait(false, Some(Instant::now() + PAUSE));
                }
            }
        }
    }

    fn wait(&self, is_accepting: bool, deadline: Option<Instant>) {
        let mut fds = [
            PollFd::new(&*self.socket.stopped, PollFlags::IN),
            PollFd::new(&self.socket.socket, PollFlags::IN),
        ];
        let fds = if is_accepting { &mut fds[..] } else { &mut fds[..1] };
        let _ = poll_until(fds, deadline);
    }

    fn greet(&self, connection: Socket) -> io::Result<()> {
        connection.set_nonblocking(false)?;
        let stream = Arc::new(UnixStream::from(OwnedFd::from(connection)));
        let client = Client::enter(&self.clients);
        if client.number > CLIENTS_MAX {
            let reason = format!("{CLIENTS_MAX} clients are connected, the most allowed: try again later");
            session::refuse(&stream, Refusal::new(RefusalKind::Busy, reason));
            return Ok(());
        }
        let session = self.session.clone();
        let (incoming, untold) = (stream.clone(), session.untold.upgrade());
        let converse = move || {
            let _client = client;
            session::converse(&incoming, &session, untold);
        };
        let spawned = thread::Builder::new().name("control-client".to_owned()).spawn(converse);
        if let Err(error) = &spawned {
            let reason = format!("no thread for it: {error}: try again later");
            session::refuse(&stream, Refusal::new(RefusalKind::Busy, reason));
        }
        spawned.map(|_| ())
    }
}

/// Counts a client until it is dropped.
struct Client {
    clients: Arc<AtomicUsize>,
    /// How many there are with it.
    number: usize,
}

impl Client {
    fn enter(clients: &Arc<AtomicUsize>) -> Self {
        Self { clients: clients.clone(), number: clients.fetch_add(1, SeqCst) + 1 }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, SeqCst);
    }
}
