//! The way of a request, whole: accept → verify → strategy → serve → close.
//!
//! Nothing that one request does comes back to the accept loop as a `Result`: it ends in [`Job`], said in the
//! log and to the hooks.

mod accept;
mod follow;
mod hooks;
mod job;
mod open;
mod options;
mod orders;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use hooks::{NoHooks, ServerHooks};
pub(crate) use job::Job;
pub use options::ServerOptions;

use crate::address::{ServeAddress, ServerType, SocketAddress};
use crate::admission::Admission;
use crate::block_on::block_on;
use crate::clients::{Clients, Refusal, Refused};
use crate::concurrency::{Concurrency, Strategy};
use crate::error::{BindError, Cause, Limit, RequestError, ServeError};
use crate::listener::Listener;
use crate::request::Request;
use crate::sandbox::Limits;
use crate::server_info::ServerInfo;
use crate::slot::{Follower, Slot, Version};
use crate::upgrade::{HandedSocket, Heir};
use accept::{Accepted, Acceptor};
use follow::Following;
use open::OpenRequests;
use orders::Orders;

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
    core: Arc<Core>,
    listener: RwLock<Option<Arc<Listener>>>,
    admission: Arc<Admission>,
    concurrency: Concurrency,
    /// Started with the first request.
    started: OnceLock<Started>,
    timeout: Option<Duration>,
    orders: Orders,
    is_serving: Mutex<bool>,
    not_serving: Condvar,
}

/// What serving takes beyond the socket.
struct Started {
    strategy: Strategy,
    /// The slot knows it for as long as the server lives.
    _following: Arc<dyn Follower>,
}

/// `ForkingMixIn`'s own.
const FORKING_TIMEOUT: Duration = Duration::from_secs(300);

/// What requests need of their server, also after it is closed.
struct Core {
    info: Arc<ServerInfo>,
    slot: Slot,
    hooks: Arc<dyn ServerHooks>,
    clients: Clients,
    open: Arc<OpenRequests>,
}

/// How long a close waits for requests that were cut off, and after what time it cuts off those that have just
/// been accepted.
const CUT_TIME: Duration = Duration::from_secs(3);
const CUT_AGAIN: Duration = Duration::from_millis(100);

/// How long it takes at most, on an idle machine, from accepting a request to serving it.
const MOMENT: Duration = Duration::from_millis(1);

/// How often a component's `service-actions` runs at least.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

impl Server {
    /// Binds an address. What serves it is a handler, or a [`Slot`] to share with other servers.
    pub fn bind(
        address: &ServeAddress,
        slot: impl Into<Slot>,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        let listener = Listener::bind(address, &options.socket)?;
        Self::new(listener, slot.into(), options)
    }

    /// Serves a socket that is bound already, for instance by systemd.
    pub fn from_socket(
        socket: OwnedFd,
        server_type: ServerType,
        slot: impl Into<Slot>,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        let listener = Listener::adopt(socket, server_type, &options.socket)?;
        Self::new(listener, slot.into(), options)
    }

    /// Takes over a socket of the process before this one.
    pub fn take_over(
        socket: HandedSocket,
        server_type: ServerType,
        slot: impl Into<Slot>,
        options: ServerOptions,
    ) -> Result<Self, BindError> {
        let listener = Listener::take_over(socket, server_type, &options.socket)?;
        Self::new(listener, slot.into(), options)
    }

    /// What another process needs to take the socket over.
    pub(crate) fn hand_out(&self) -> io::Result<HandedSocket> {
        self.listener().map_err(io::Error::other)?.hand_out()
    }

    /// Whoever is to get the connections that it has accepted and not begun to serve when it is closed.
    pub(crate) fn set_heir(&self, heir: Heir) {
        if let Ok(listener) = self.listener() {
            listener.set_heir(heir);
        }
    }

    /// Serves a connection that another process has accepted.
    pub(crate) fn inherit(
        &self,
        connection: OwnedFd,
        client_address: Option<SocketAddress>,
    ) -> io::Result<()> {
        self.listener().map_err(io::Error::other)?.inherit(connection, client_address)?;
        self.orders.wake.wake();
        Ok(())
    }

    /// Says whether a Unix socket's file goes with this server or belongs to another process.
    pub(crate) fn set_owned(&self, is_owned: bool) {
        if let Ok(listener) = self.listener() {
            listener.set_owned(is_owned);
        }
    }

    fn new(listener: Listener, slot: Slot, options: ServerOptions) -> Result<Self, BindError> {
        let server_type = listener.server_type();
        let server_address = listener.local_address()?;
        let address = ServeAddress::with_bound(server_type, &server_address);
        let info = ServerInfo {
            name: options.name.unwrap_or_else(|| address.to_string()),
            server_type,
            server_address,
            concurrency: options.concurrency.name().to_owned(),
        };
        let handler = slot.current();
        let sandbox = handler.sandbox();
        let Limits { idle_time, min_rate, .. } = sandbox.limits();
        listener.set_pace(*idle_time, *min_rate)?;
        let capacity =
            options.clients.max_connections.unwrap_or(usize::MAX).min(options.concurrency.capacity());
        if !options.clients.proxy_protocol.is_empty() {
            listener.trust(options.clients.proxy_protocol.clone())?;
        }
        let admission = Admission::new(capacity, Some(sandbox.admission().clone()));
        let core = Core {
            info: Arc::new(info),
            slot,
            hooks: options.hooks,
            clients: Clients::new(options.clients),
            open: Arc::default(),
        };
        let is_forking = matches!(options.concurrency, Concurrency::Forking { .. });
        let timeout = options.timeout.or(is_forking.then_some(FORKING_TIMEOUT));
        let server = Self {
            core: Arc::new(core),
            listener: RwLock::new(Some(Arc::new(listener))),
            admission,
            concurrency: options.concurrency,
            started: OnceLock::new(),
            timeout,
            orders: Orders::new()?,
            is_serving: Mutex::new(false),
            not_serving: Condvar::new(),
        };
        if options.bind_and_activate {
            server.server_activate()?;
        }
        Ok(server)
    }

    /// Starts to listen, if the server was bound without.
    pub fn server_activate(&self) -> Result<(), BindError> {
        match self.listener() {
            Ok(listener) => Ok(listener.activate()?),
            Err(_) => Ok(()),
        }
    }

    /// What the server is.
    pub fn info(&self) -> &ServerInfo {
        &self.core.info
    }

    /// The address it is bound to: `socketserver`'s `server_address`.
    pub fn server_address(&self) -> &SocketAddress {
        &self.core.info.server_address
    }

    /// The address as a user writes it, with the port that it got.
    pub fn address(&self) -> ServeAddress {
        ServeAddress::with_bound(self.core.info.server_type, self.server_address())
    }

    /// The listening socket's descriptor; `None` when it is closed.
    pub fn fileno(&self) -> Option<RawFd> {
        self.listener().ok().map(|listener| listener.as_fd().as_raw_fd())
    }

    /// What holds the handler that new requests get: to see its versions, and to swap it.
    pub fn handler(&self) -> &Slot {
        &self.core.slot
    }

    /// How many requests are open.
    pub fn open_requests(&self) -> usize {
        self.core.open.count()
    }

    /// How many clients were turned away so far, and why.
    pub fn refused(&self) -> Refused {
        self.core.clients.refusals().so_far()
    }

    /// Stops accepting; open requests go on, and new clients wait in the listen queue.
    pub fn pause(&self) {
        self.orders.pause();
    }

    /// Accepts again.
    pub fn resume(&self) {
        self.orders.resume();
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.orders.is_paused()
    }

    /// Whether it is paused and every request that it had accepted has ended.
    pub fn is_drained(&self) -> bool {
        self.is_paused() && self.admission.open() == 0
    }

    /// Starts the threads or the process that the strategy keeps, which serving would do otherwise.
    pub fn start(&self) -> Result<(), ServeError> {
        self.strategy().map(|_| ())
    }

    /// Serves until [`shutdown`](Self::shutdown). A shutdown that was asked for before ends it at once.
    pub fn serve_forever(&self) -> Result<(), ServeError> {
        let listener = self.listener()?;
        let _serving = Serving::begin(self)?;
        self.start()?;
        let mut acceptor = self.acceptor(&listener);
        let mut quiet_since = Instant::now();
        loop {
            let timeout = self.timeout.and_then(|timeout| quiet_since.checked_add(timeout));
            let service = self.service_interval().and_then(|interval| Instant::now().checked_add(interval));
            match acceptor.get_request([timeout, service].into_iter().flatten().min())? {
                Accepted::Request(request) => {
                    quiet_since = Instant::now();
                    self.verify_and_process(request)?;
                }
                Accepted::TimedOut if timeout.is_some_and(|at| Instant::now() >= at) => {
                    quiet_since = Instant::now();
                    self.handle_timeout();
                }
                Accepted::TimedOut => {}
                Accepted::Stopped => return Ok(()),
            }
            self.service_actions();
        }
    }

    /// Serves one request, or runs `handle_timeout` if none comes in time. Whether one came; a refused one did.
    pub fn handle_request(&self) -> Result<bool, ServeError> {
        match self.next_request()? {
            Accepted::Request(request) => self.verify_and_process(request).map(|()| true),
            Accepted::TimedOut => {
                self.handle_timeout();
                Ok(false)
            }
            Accepted::Stopped => Ok(false),
        }
    }

    /// Waits for a request, at most for the server's `timeout`; for programs with a loop of their own.
    pub fn get_request(&self) -> Result<Option<Arc<Request>>, ServeError> {
        match self.next_request()? {
            Accepted::Request(request) => Ok(Some(request)),
            Accepted::TimedOut | Accepted::Stopped => Ok(None),
        }
    }

    fn next_request(&self) -> Result<Accepted, ServeError> {
        let listener = self.listener()?;
        let _serving = Serving::begin(self)?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.acceptor(&listener).get_request(deadline)
    }

    /// Whether every hook lets the request pass: the program's, then the component's.
    pub fn verify_request(&self, request: &Arc<Request>) -> bool {
        self.core.hooks.verify_request(request) && self.core.component_verifies(request)
    }

    /// Has a request served as the strategy does.
    pub fn process_request(&self, request: Arc<Request>) -> Result<(), ServeError> {
        let strategy = self.strategy()?;
        strategy.process_request(Job::new(&self.core, request));
        Ok(())
    }

    fn verify_and_process(&self, request: Arc<Request>) -> Result<(), ServeError> {
        if self.verify_request(&request) {
            return self.process_request(request);
        }
        self.core.clients.refusals().count(&Refusal::Verify);
        tracing::debug!(request = request.id(), client = %request.client_address(), "refused");
        self.core.close_request(&request);
        Ok(())
    }

    /// Ends `serve_forever`, which may run in another thread, and waits for its end. Open requests go on. If
    /// it does not run, its next call ends at once.
    pub fn shutdown(&self) {
        self.request_shutdown();
        let serving = self.is_serving.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.not_serving.wait_while(serving, |serving| *serving));
    }

    /// Like [`shutdown`](Self::shutdown) without the wait: also for the serving thread itself.
    pub fn request_shutdown(&self) {
        self.orders.stop();
    }

    /// Closes the listening socket and, where the strategy is asked to (`block_on_close`), waits for open
    /// requests.
    pub fn server_close(&self) {
        self.close_listener();
        if self.concurrency.waits_on_close() {
            self.core.open.wait_until_none(None);
        }
    }

    /// Closes the listening socket, waits at most `timeout` for open requests and cuts off the rest; how many.
    pub fn server_close_within(&self, timeout: Duration) -> usize {
        self.close_listener();
        if self.wait_until_none(Instant::now().checked_add(timeout)) {
            return 0;
        }
        let is_served_here = !matches!(self.concurrency, Concurrency::Forking { .. });
        let end = Instant::now() + CUT_TIME;
        let mut cut = 0;
        loop {
            cut += self.core.open.cut(Limit::Closing, is_served_here, |_| true);
            if let Some(started) = self.started.get() {
                started.strategy.cut_all();
            }
            // A request that was cut ends within a tick, or when its system call returns.
            if self.wait_until_none(Some(Instant::now() + CUT_AGAIN)) || Instant::now() >= end {
                return cut;
            }
        }
    }

    /// Waits until no request is open or the deadline passes; whether none is. One that is just being accepted
    /// has a place already and is not among the open ones yet.
    fn wait_until_none(&self, deadline: Option<Instant>) -> bool {
        while self.core.open.wait_until_none(deadline) {
            if self.admission.open() == 0 {
                return true;
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                return false;
            }
            std::thread::sleep(MOMENT);
        }
        false
    }

    fn close_listener(&self) {
        self.listener.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn listener(&self) -> Result<Arc<Listener>, ServeError> {
        self.listener.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(ServeError::Closed)
    }

    fn acceptor<'a>(&'a self, listener: &'a Listener) -> Acceptor<'a> {
        let Self { core, admission, orders, .. } = self;
        Acceptor::new(listener, &core.clients, admission, &core.slot, orders, self.concurrency.waits())
    }

    fn strategy(&self) -> Result<&Strategy, ServeError> {
        if self.started.get().is_none() {
            let _ = self.started.set(self.start_strategy()?);
        }
        Ok(&self.started.get().expect("it was set above").strategy)
    }

    fn start_strategy(&self) -> Result<Started, ServeError> {
        let failed = |error| ServeError::Strategy(self.concurrency.name(), error);
        let Core { info, slot, open, .. } = &*self.core;
        let listener = self.listener()?;
        let is_datagram = info.server_type.is_datagram();
        let datagram_socket = || is_datagram.then(|| listener.as_fd().try_clone_to_owned()).transpose();
        let strategy = Strategy::start(&self.concurrency, info, datagram_socket).map_err(failed)?;
        let forking = strategy.forking().cloned();
        let following: Arc<dyn Follower> =
            Arc::new(Following { info: info.clone(), open: open.clone(), forking });
        slot.attach(&following).map_err(failed)?;
        Ok(Started { strategy, _following: following })
    }

    fn handle_timeout(&self) {
        self.core.hooks.handle_timeout();
        let version = self.core.slot.stable();
        self.core.run_hook(version.handler.handle_timeout(&self.core.info, &version.info));
    }

    fn service_interval(&self) -> Option<Duration> {
        let of_component = self.core.slot.stable().handler.has_hooks().then_some(POLL_INTERVAL);
        [self.core.hooks.service_interval(), of_component].into_iter().flatten().min()
    }

    fn service_actions(&self) {
        self.core.hooks.service_actions();
        let version = self.core.slot.stable();
        if version.handler.has_hooks() {
            self.core.run_hook(version.handler.service_actions(&self.core.info, &version.info));
        }
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("info", &self.info).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("info", &self.core.info).finish_non_exhaustive()
    }
}

/// One thread is in the accept loop.
struct Serving<'a>(&'a Server);

impl<'a> Serving<'a> {
    fn begin(server: &'a Server) -> Result<Self, ServeError> {
        let mut is_serving = server.is_serving.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_serving {
            return Err(ServeError::Busy);
        }
        *is_serving = true;
        Ok(Self(server))
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let mut is_serving = self.0.is_serving.lock().unwrap_or_else(PoisonError::into_inner);
        *is_serving = false;
        // What was asked for has been done; a later call serves again.
        self.0.orders.has_stopped();
        self.0.not_serving.notify_all();
    }
}

impl Core {
    /// The version that a request took when it was accepted.
    fn version<'a>(&self, request: &'a Request) -> &'a Arc<Version> {
        request.version.as_ref().expect("requests come from a server, which gives them their version")
    }

    fn component_verifies(&self, request: &Arc<Request>) -> bool {
        let version = self.version(request);
        let verified = block_on(version.handler.verify_request(&self.info, &version.info, request));
        request.rewind();
        verified.unwrap_or_else(|error| {
            block_on(self.handle_error(request, version, &error));
            false
        })
    }

    /// `socketserver`'s `handle_error`: logs what went wrong with a request, and tells the hooks.
    async fn handle_error(&self, request: &Request, version: &Version, error: &RequestError) {
        let generation = version.info.generation;
        let (id, client, phase, cause) = (request.id(), request.client_address(), error.phase, &error.cause);
        match cause {
            cause if cause.is_the_clients() => {
                tracing::info!(request = id, %client, %phase, generation, "{cause}")
            }
            _ => tracing::warn!(request = id, %client, %phase, generation, "{cause}"),
        }
        if let Cause::Trap { backtrace, .. } = cause {
            tracing::debug!(request = id, "{}", backtrace.trim_end());
        }
        isolated(|| self.hooks.handle_error(request, error));
        let hook = version.handler.handle_error(&self.info, &version.info, request, error);
        if let Err(error) = hook.await {
            tracing::warn!(request = id, "hook handle-error failed: {}", error.cause);
        }
    }

    fn close_request(&self, request: &Request) {
        isolated(|| self.hooks.close_request(request));
    }

    /// Runs a hook of the component that has no say in what happens.
    fn run_hook(&self, hook: impl Future<Output = Result<(), RequestError>>) {
        if let Err(error) = block_on(hook) {
            tracing::warn!("hook failed: {}", error.cause);
        }
    }
}

/// Runs a hook of the embedding program; its panic must not take the thread that serves with it.
fn isolated(hook: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(hook)).is_err() {
        tracing::error!("a hook of the program panicked");
    }
}

/// Defines a server type's name as a way to bind one.
macro_rules! server_types {
    ($($(#[$doc:meta])* $name:ident, $scheme:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            /// Binds an address, with the default options.
            pub fn bind(address: &str, slot: impl Into<Slot>) -> Result<Server, BindError> {
                Self::bind_with(address, slot, ServerOptions::default())
            }

            /// Binds an address.
            pub fn bind_with(
                address: &str,
                slot: impl Into<Slot>,
                options: ServerOptions,
            ) -> Result<Server, BindError> {
                Server::bind(&format!("{}://{address}", $scheme).parse()?, slot, options)
            }
        }
    )*};
}

server_types! {
    /// Makes servers whose requests are TCP connections; the address is `HOST:PORT`.
    TcpServer, "tcp";
    /// Makes servers whose requests are UDP datagrams; the address is `HOST:PORT`.
    UdpServer, "udp";
    /// Makes servers whose requests are connections to a Unix socket; the address is a path or `@NAME`.
    UnixStreamServer, "unix";
    /// Makes servers whose requests are datagrams to a Unix socket; the address is a path or `@NAME`.
    UnixDatagramServer, "unixgram";
}
