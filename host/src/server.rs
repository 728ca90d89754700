//! The way of a request, whole: accept → verify → strategy → serve → close.
//!
//! Nothing that one request does comes back to the accept loop, as a `Result` or as a panic: it ends in its [`Job`], said in
//! the log and to the hooks.

mod accept;
mod close;
mod control;
mod follow;
mod options;
mod succeed;
mod types;

use std::io;
use std::ops::DerefMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

pub use options::ServerOptions;
pub use types::{TcpServer, UdpServer, UnixDatagramServer, UnixStreamServer};

use crate::address::{ServeAddress, ServerType, SocketAddress};
use crate::admission::Admission;
use crate::clients::{Clients, Refused};
use crate::concurrency::{Concurrency, ForkServers, Strategy};
use crate::error::{BindError, ServeError};
use crate::events::{EventKind, emit};
use crate::job::{Closing, Job, OpenRequests, ServerCounts, Service, isolated};
use crate::listener::{HandedSocket, ListenQueue, Listener};
use crate::server_info::ServerInfo;
use crate::slot::{Follower, Slot, Version};
use crate::tls::{Handshakes, ServerTls, Tls};
use crate::traces::Traces;
use accept::{Accepted, Acceptor, Entrance};
use control::LoopControl;
use follow::SlotFollower;

/// A bound socket and the handler that serves it: `socketserver.BaseServer`.
///
/// All methods take `&self`, so that one thread can serve while others look on or shut it down.
///
/// ```no_run
/// use plugsock::{Sandbox, TcpServer};
///
/// let sandbox = Sandbox::new(Default::default())?;
/// let server = TcpServer::bind("127.0.0.1:10001", sandbox.load("echo.wasm")?)?;
/// server.serve_forever()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    service: Arc<Service>,
    tls: Option<Arc<ServerTls>>,
    /// `None` when it is closed.
    listener: RwLock<Option<Arc<Listener>>>,
    admission: Admission,
    concurrency: Concurrency,
    /// Started with the first request.
    started: OnceLock<Started>,
    timeout: Option<Duration>,
    control: LoopControl,
    /// Whoever has the entrance accepts.
    entrance: Mutex<Held>,
    /// The entrance is back.
    has_entrance: Condvar,
}

/// Where the entrance is: here, or with a thread that accepts.
enum Held {
    Here(Box<Entrance>),
    By(ThreadId),
}

/// What serving takes beyond the socket.
struct Started {
    strategy: Strategy,
    /// The slot knows it for as long as the server lives.
    _follower: Arc<dyn Follower>,
}

/// `ForkingMixIn`'s own.
const FORKING_TIMEOUT: Duration = Duration::from_secs(300);

/// How often a component's `service-actions` runs at least.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

impl Server {
    /// Binds an address. What serves it is a handler, or a [`Slot`] to share with other servers.
    pub fn bind(
        address: &ServeAddress,
        slot: impl Into<Slot>,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        Self::with_listener(Listener::bind(address, &options.socket)?, slot, options)
    }

    /// Serves a socket that is bound already, for instance by systemd.
    pub fn from_socket(
        socket: OwnedFd,
        server_type: ServerType,
        slot: impl Into<Slot>,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        Self::with_listener(Listener::adopt(socket, server_type, &options.socket)?, slot, options)
    }

    /// Serves what was bound before its handler was loaded, for instance since that is for another user to do.
    pub fn with_listener(
        listener: Listener,
        slot: impl Into<Slot>,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        let slot = slot.into();
        let server_type = listener.server_type();
        let server_address = listener.local_address()?;
        let is_tls = listener.is_tls();
        let address = ServeAddress::with_bound(server_type, is_tls, &server_address);
        let tls = options.tls.filter(|_| !server_type.is_datagram()).map(ServerTls::new);
        match &tls {
            Some(tls) => listener.set_tls(tls.clone()),
            None if is_tls => return Err(BindError::NoCertificate(address.to_string())),
            None => {}
        }
        let info = ServerInfo {
            name: options.name.unwrap_or_else(|| address.to_string()),
            server_type,
            server_address,
            is_tls,
            concurrency: options.concurrency.name().to_owned(),
            http: options.http,
            is_measured: options.measure || options.traces.is_some(),
            sampling: options.traces.as_ref().map(Traces::sampling),
        };
        let handler = slot.current();
        let sandbox = handler.sandbox();
        listener.set_timeout(sandbox.limits().idle_time)?;
        let clients = Clients::new(options.clients, address.to_string());
        let headers = if server_type.is_datagram() { None } else { clients.proxy_headers()? };
        let capacity = clients.max_connections().unwrap_or(usize::MAX).min(options.concurrency.capacity());
        let is_forking = matches!(options.concurrency, Concurrency::Forking { .. });
        let service = Service {
            info: Arc::new(info),
            slot,
            hooks: options.hooks,
            clients,
            open: Arc::new(OpenRequests::new(!is_forking)),
            exchanges: Arc::new(OpenRequests::new(true)),
            places: options.concurrency.places().min(sandbox.limits().max_requests.saturating_sub(1)),
            closing: Closing::new()?,
            counts: ServerCounts::default(),
            traces: options.traces,
            waits: options.concurrency.waits(),
        };
        let server = Self {
            service: Arc::new(service),
            tls,
            listener: RwLock::new(Some(Arc::new(listener))),
            admission: Admission::new(capacity, sandbox.requests().clone()),
            timeout: options.timeout.or(is_forking.then_some(FORKING_TIMEOUT)),
            concurrency: options.concurrency,
            started: OnceLock::new(),
            control: LoopControl::new()?,
            entrance: Mutex::new(Held::Here(Box::new(Entrance::new(headers)))),
            has_entrance: Condvar::new(),
        };
        if options.bind_and_activate {
            server.server_activate()?;
        }
        Ok(server)
    }

    /// What another process needs to take the socket over.
    pub(crate) fn hand_out(&self) -> io::Result<HandedSocket> {
        self.listener().map_err(io::Error::other)?.hand_out()
    }

    /// Says whether a Unix socket's file goes with this server or belongs to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        if let Ok(listener) = self.listener() {
            listener.set_owned(is_owned);
        }
    }

    /// Starts to listen, if the server was bound without.
    pub fn server_activate(&self) -> Result<(), BindError> {
        match self.listener() {
            Ok(listener) => listener.activate(),
            Err(_) => Ok(()),
        }
    }

    /// What the server is.
    pub fn info(&self) -> &ServerInfo {
        &self.service.info
    }

    /// The address it is bound to: `socketserver`'s `server_address`.
    pub fn server_address(&self) -> &SocketAddress {
        &self.service.info.server_address
    }

    /// The address as a user writes it, with the port that it got.
    pub fn address(&self) -> ServeAddress {
        self.service.info.address()
    }

    /// What waits in the kernel to be accepted, where that is known.
    pub(crate) fn listen_queue(&self) -> Option<ListenQueue> {
        self.listener().ok()?.queue()
    }

    /// The listening socket's descriptor; `None` when it is closed.
    pub fn fileno(&self) -> Option<RawFd> {
        self.listener().ok().map(|listener| listener.as_fd().as_raw_fd())
    }

    /// What holds the handler that new requests get: to see its versions, and to swap it.
    pub fn handler(&self) -> &Slot {
        &self.service.slot
    }

    /// How many requests are open.
    pub fn open_requests(&self) -> usize {
        self.service.open.count()
    }

    /// How many clients were turned away so far, and why.
    pub fn refused(&self) -> Refused {
        self.service.clients.refusals().so_far()
    }

    /// What its connections are protected with, if there is anything.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref().map(|tls| tls.tls())
    }

    /// How its TLS handshakes went so far.
    pub fn handshakes(&self) -> Handshakes {
        self.tls.as_ref().map(|tls| tls.handshakes()).unwrap_or_default()
    }

    /// What was counted of it so far, with what open requests have brought until now.
    pub(crate) fn counts(&self) -> &ServerCounts {
        let Service { open, counts, .. } = &*self.service;
        open.volumes().into_iter().for_each(|volume| counts.volume.add(volume));
        counts
    }

    /// How its fork servers fare, if it has any.
    pub(crate) fn fork_servers(&self) -> Option<ForkServers> {
        self.started.get()?.strategy.forking().map(|forking| forking.fork_servers())
    }

    /// Stops accepting; open requests go on, and new clients wait in the listen queue. Connections of HTTP end with the
    /// requests that they have open.
    pub fn pause(&self) {
        if !self.is_paused() {
            self.tell(|address| EventKind::Draining { address });
        }
        self.control.pause();
        self.service.closing.set_paused(true);
    }

    /// Accepts again.
    pub fn resume(&self) {
        if self.is_paused() {
            self.tell(|address| EventKind::Resumed { address });
        }
        self.service.closing.set_paused(false);
        self.control.resume();
    }

    /// Tells those who follow events of this server.
    fn tell(&self, event: impl FnOnce(String) -> EventKind) {
        emit(|| event(self.address().to_string()));
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.control.is_paused()
    }

    /// Whether it is paused and every request that it had accepted has ended.
    pub fn is_drained(&self) -> bool {
        // In this order: what the loop lets go of is among the open requests before.
        self.is_paused() && !self.control.is_busy() && self.open_requests() == 0
    }

    /// Whether the loop that accepts, if there is one, has come round since this was last called, which asks it to do so
    /// again. A supervisor's watchdog wants to know. With `sync` the loop also serves, which has limits of its own.
    pub fn is_responsive(&self) -> bool {
        let is_accepting = matches!(*self.held(), Held::By(_));
        let is_serving = matches!(self.concurrency, Concurrency::Sync) && self.open_requests() > 0;
        self.control.has_turned() || !is_accepting || is_serving
    }

    /// Starts the threads or the process that the strategy keeps, which serving would do otherwise.
    pub fn start(&self) -> Result<(), ServeError> {
        self.strategy().map(|_| ())
    }

    /// Serves until [`shutdown`](Self::shutdown). A shutdown that was asked for before ends it at once.
    pub fn serve_forever(&self) -> Result<(), ServeError> {
        let listener = self.listener()?;
        let mut accepting = self.begin_accepting()?;
        self.start()?;
        self.tell(|address| {
            let Version { handler, info, .. } = &*self.service.slot.stable();
            let (slot, digest) = (self.service.slot.name().to_owned(), handler.digest().to_owned());
            EventKind::Serving { address, slot, generation: info.generation, digest }
        });
        let mut quiet_since = Instant::now();
        loop {
            let mut acceptor = self.acceptor(Some(&listener), &mut accepting);
            match isolated("accepting", || self.serve_next(&mut acceptor, &mut quiet_since)) {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return Ok(()),
                Some(Err(error)) => return Err(error),
                // What brings it about may still be there.
                None => acceptor.pause(None)?,
            }
        }
    }

    /// One round of [`serve_forever`](Self::serve_forever): `false` at a shutdown.
    fn serve_next(&self, acceptor: &mut Acceptor<'_>, quiet_since: &mut Instant) -> Result<bool, ServeError> {
        let timeout = self.timeout.and_then(|timeout| quiet_since.checked_add(timeout));
        let service = self.service_interval().and_then(|interval| Instant::now().checked_add(interval));
        match acceptor.next([timeout, service].into_iter().flatten().min())? {
            Accepted::Request(job) => {
                *quiet_since = Instant::now();
                self.verify_and_process(job)?;
            }
            Accepted::TimedOut if timeout.is_some_and(|at| Instant::now() >= at) => {
                *quiet_since = Instant::now();
                self.handle_timeout();
            }
            Accepted::TimedOut => {}
            Accepted::Stopped => return Ok(false),
        }
        self.service_actions();
        Ok(true)
    }

    /// Serves one request, or runs `handle_timeout` if none comes in time. Whether one came; a refused one did.
    pub fn handle_request(&self) -> Result<bool, ServeError> {
        match self.next_request()? {
            Accepted::Request(job) => self.verify_and_process(job).map(|()| true),
            Accepted::TimedOut => {
                self.handle_timeout();
                Ok(false)
            }
            Accepted::Stopped => Ok(false),
        }
    }

    /// Waits for a request, at most for the server's `timeout`; for programs with a loop of their own.
    pub fn get_request(&self) -> Result<Option<Job>, ServeError> {
        match self.next_request()? {
            Accepted::Request(job) => Ok(Some(job)),
            Accepted::TimedOut | Accepted::Stopped => Ok(None),
        }
    }

    fn next_request(&self) -> Result<Accepted, ServeError> {
        let listener = self.listener()?;
        let mut accepting = self.begin_accepting()?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.acceptor(Some(&listener), &mut accepting).next(deadline)
    }

    /// Whether every hook lets the request pass: the program's, then the component's.
    pub fn verify_request(&self, job: &Job) -> bool {
        job.is_verified()
    }

    /// Has a request served as the strategy does.
    pub fn process_request(&self, job: Job) -> Result<(), ServeError> {
        self.strategy()?.process_request(job);
        Ok(())
    }

    fn verify_and_process(&self, job: Job) -> Result<(), ServeError> {
        match self.verify_request(&job) {
            true => self.process_request(job),
            false => {
                job.refuse_unverified();
                Ok(())
            }
        }
    }

    fn listener(&self) -> Result<Arc<Listener>, ServeError> {
        self.listener.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(ServeError::Closed)
    }

    fn acceptor<'a>(
        &'a self,
        listener: Option<&'a Listener>,
        accepting: &'a mut Accepting<'_>,
    ) -> Acceptor<'a> {
        let Self { service, admission, control, .. } = self;
        // Packets are served without a wait for anybody, and gain nothing.
        let yields = self.concurrency.has_threads() && !service.info.server_type.is_datagram();
        Acceptor {
            listener,
            service,
            admission,
            control,
            yields,
            is_ready: false,
            entrance: &mut accepting.entrance,
        }
    }

    fn strategy(&self) -> Result<&Strategy, ServeError> {
        if self.started.get().is_none() {
            let _ = self.started.set(self.start_strategy()?);
        }
        Ok(&self.started.get().expect("it was set above").strategy)
    }

    fn start_strategy(&self) -> Result<Started, ServeError> {
        let failed = |error| ServeError::Strategy(self.concurrency.name(), error);
        let Service { info, slot, open, exchanges, closing, .. } = &*self.service;
        let listener = self.listener()?;
        let is_datagram = info.server_type.is_datagram();
        let datagram_socket = || is_datagram.then(|| listener.as_fd().try_clone_to_owned()).transpose();
        let strategy =
            Strategy::start(&self.concurrency, info, closing.drain(), datagram_socket).map_err(failed)?;
        let forking = strategy.forking().cloned();
        let follower: Arc<dyn Follower> = Arc::new(SlotFollower {
            info: info.clone(),
            open: open.clone(),
            exchanges: exchanges.clone(),
            forking,
        });
        slot.attach(&follower).map_err(failed)?;
        Ok(Started { strategy, _follower: follower })
    }

    fn handle_timeout(&self) {
        let Service { info, slot, hooks, .. } = &*self.service;
        isolated("handle_timeout", || hooks.handle_timeout());
        let version = slot.stable();
        self.service.run_hook(version.handler.handle_timeout(info, &version.info));
    }

    fn service_interval(&self) -> Option<Duration> {
        let of_component = self.service.slot.stable().handler.has_hooks().then_some(POLL_INTERVAL);
        let of_program = isolated("service_interval", || self.service.hooks.service_interval()).flatten();
        [of_program, of_component].into_iter().flatten().min()
    }

    fn service_actions(&self) {
        let Service { info, slot, hooks, .. } = &*self.service;
        isolated("service_actions", || hooks.service_actions());
        let version = slot.stable();
        if version.handler.has_hooks() {
            self.service.run_hook(version.handler.service_actions(info, &version.info));
        }
    }

    /// Takes the entrance, so that this thread alone accepts until what this returns is dropped.
    fn begin_accepting(&self) -> Result<Accepting<'_>, ServeError> {
        self.take_entrance(&mut self.held()).ok_or(ServeError::Busy)
    }

    fn take_entrance(&self, held: &mut impl DerefMut<Target = Held>) -> Option<Accepting<'_>> {
        match std::mem::replace(&mut **held, Held::By(thread::current().id())) {
            Held::Here(entrance) => Some(Accepting { server: self, entrance: *entrance }),
            by => {
                **held = by;
                None
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("info", &self.service.info).finish_non_exhaustive()
    }
}

/// One thread accepts, until this is dropped.
struct Accepting<'a> {
    server: &'a Server,
    entrance: Entrance,
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        let Self { server, entrance } = self;
        let entrance = std::mem::replace(entrance, Entrance::new(None));
        server.control.set_busy(!entrance.is_empty());
        let mut held = server.held();
        *held = Held::Here(Box::new(entrance));
        // What was asked for has been done; a later call serves again.
        server.control.has_stopped();
        server.has_entrance.notify_all();
    }
}
