//! A checked, compiled and linked component, and the serving of one request by it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use wasmtime::component::ResourceTableError;
use wasmtime::{GcHeapOutOfMemory, Store, Trap, WasmBacktrace, WasmCoreDump};
use wasmtime_wasi::I32Exit;

use super::code::Code;
use super::contract::request_handler;
use super::guest::{Guest, Linked};
use super::http::{self, Exchanges, Fixed, HttpRequest};
use super::limits::Deadlines;
use super::profile::Sampling;
use super::request::RequestResource;
use super::source_lines::SourceLines;
use super::state::{Serves, State};
use super::version_info::VersionInfo;
use super::warm::Warm;
use super::watch::Watch;
use super::{Digest, HandlerKind, Origin, Sandbox, Subject, command, component};
use crate::address::{ServerType, UnixAddress};
use crate::block_on::{block_on, boxed};
use crate::error::{Cause, HandlerError, Limit, Phase, RequestError, excerpt, one_line};
use crate::request::{
    ClientFault, Datagram, DatagramSocket, Patience, Request, Stream, StreamTls, Transport, Waits,
};
use crate::runtime;
use crate::server_info::ServerInfo;
use crate::taken::{AnswerCount, InstanceOrigin};
use crate::tls::{ServerTls, Tls, TlsError, Wanted};

/// A component that is ready to serve. Cloning is cheap.
#[derive(Clone)]
pub struct Handler(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) sandbox: Sandbox,
    name: Arc<str>,
    /// Where it was loaded from.
    origin: Option<Origin>,
    digest: Arc<str>,
    /// The component itself, for a process that takes over.
    component: Option<OwnedFd>,
    pub(super) linked: Linked,
    /// Instances that may serve another request; empty unless the operator allows reuse, `None` if none is kept.
    idle: Mutex<Option<Vec<Live>>>,
    /// Instances that have not served yet.
    pub(super) warm: Warm,
    pub(super) source_lines: SourceLines,
    /// What looks at guests while they run, if they are profiled.
    pub(super) sampling: OnceLock<Arc<Sampling>>,
}

/// An instance, and how many requests it has served.
pub(super) struct Live {
    store: Store<State>,
    /// `None` until it is instantiated.
    guest: Option<Guest>,
    served: usize,
}

/// A resource is counted once for whoever owns it and once more while it is lent.
const HANDLES_A_RESOURCE: usize = 2;

/// Why an HTTP handler and a datagram do not come together.
const NO_HTTP_IN_DATAGRAMS: &str =
    "it is an HTTP handler, and HTTP needs connections: serve it on tcp://, tls:// or unix://";

/// No reply is larger.
const PACKET_MAX: usize = 64 * 1024;

/// What a handler that is called with a packet sees as its client's address. Nothing has this name.
const CALLER: &[u8] = b"plugsock-call";

impl Handler {
    /// Loads what has passed every check of its origin.
    pub(super) fn new(
        sandbox: &Sandbox,
        name: String,
        bytes: &[u8],
        digest: Digest,
    ) -> Result<Self, HandlerError> {
        let unfit = |reason: String| HandlerError::Unfit { name: name.clone(), reason };
        let code = component::compile(sandbox, bytes, digest).map_err(unfit)?;
        Self::link(sandbox, &name, digest.to_string(), &code).map_err(unfit)
    }

    /// The compiled code, in a file without a name, for a process that is to serve it too.
    pub(crate) fn precompiled(&self) -> io::Result<OwnedFd> {
        self.0.linked.code().to_sealed_file()
    }

    /// The handler that [`Handler::precompiled`] wrote.
    pub(super) fn from_precompiled(
        sandbox: &Sandbox,
        name: &str,
        digest: &str,
        code: OwnedFd,
    ) -> Result<Self, HandlerError> {
        let unfit = |reason| HandlerError::Unfit { name: name.to_owned(), reason };
        let code = Code::from_sealed_file(&sandbox.host().platform.engine, code).map_err(unfit)?;
        Self::link(sandbox, name, digest.to_owned(), &code).map_err(unfit)
    }

    pub(super) fn link(sandbox: &Sandbox, name: &str, digest: String, code: &Code) -> Result<Self, String> {
        let linked = Linked::new(sandbox.platform_of(code), code)?;
        if linked.component().is_some_and(component::speaks_tls) {
            // Now: children of a fork server then find it made.
            sandbox.tls_config();
        }
        let handler = Self(Arc::new(Inner {
            sandbox: sandbox.clone(),
            name: name.into(),
            origin: None,
            digest: digest.into(),
            component: None,
            linked,
            idle: Mutex::new(Some(Vec::new())),
            warm: Warm::default(),
            source_lines: SourceLines::default(),
            sampling: OnceLock::new(),
        }));
        match handler.try_out() {
            // The host could make an instance, with all that it is granted.
            Err(reason) if sandbox.host().forks => tracing::debug!("not before it is forked: {reason}"),
            tried => tried?,
        }
        Ok(handler)
    }

    /// Makes one instance and drops it, so that exports of wrong types and a too large beginning show now.
    #[doc(hidden)]
    pub fn try_out(&self) -> Result<(), String> {
        let made = self.instantiate_ahead().map(drop).and_then(|()| match self.has_hooks() {
            true => self.ahead(async |store| self.0.linked.instantiate_hooks(store).await).map(drop),
            false => Ok(()),
        });
        made.map_err(|reason| format!("it cannot be instantiated: {reason}"))
    }

    /// An instance for a request to come.
    pub(super) fn instantiate_ahead(&self) -> Result<Live, String> {
        let (store, guest) = self.ahead(async |store| self.0.linked.instantiate(store).await)?;
        Ok(Live { store, guest: Some(guest), served: 0 })
    }

    /// What `instantiate` makes in a store that has no request yet.
    fn ahead<T>(
        &self,
        instantiate: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<(Store<State>, T), String> {
        let forks = self.0.sandbox.host().forks;
        let waits = if forks { Waits::Task } else { Waits::Thread };
        let watch = Arc::new(Watch::for_start(self.0.sandbox.limits(), waits));
        let mut store =
            self.store(&Arc::new(ServerInfo::none()), &VersionInfo::default(), Serves::None, &watch);
        let made = watch.over(instantiate(&mut store));
        let made = match forks {
            true => runtime::block_on_alone(made).map_err(|error| error.to_string())?,
            false => block_on(made),
        };
        let reason = match made {
            Ok(Ok(made)) => return Ok((store, made)),
            Ok(Err(error)) => match cause(&store, &error) {
                Cause::Limit(limit) => limit.to_string(),
                Cause::Trap { message, backtrace, .. } => format!("{}: {message}", backtrace.trim_end()),
                _ => format!("{error:#}"),
            },
            Err(cause) => cause.to_string(),
        };
        Err(reason)
    }

    /// What the handler is called: its file's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it was loaded from, if from anywhere.
    pub fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// Notes where a new handler was loaded from.
    pub(super) fn loaded_from(mut self, origin: Option<Origin>) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("a new handler has no clones");
        inner.origin = origin;
        self
    }

    /// Keeps the component that a new handler was loaded from.
    pub(super) fn keeping(mut self, component: Option<OwnedFd>) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("a new handler has no clones");
        inner.component = component;
        self
    }

    /// The component itself, sealed against change; `None` if it is the built-in one, or there was no memory or
    /// descriptor to keep it.
    pub(crate) fn component(&self) -> Option<BorrowedFd<'_>> {
        self.0.component.as_ref().map(AsFd::as_fd)
    }

    /// SHA-256 of the component, as `sha256:` and 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    pub(super) fn kind(&self) -> HandlerKind {
        self.0.linked.kind()
    }

    /// Whether it is an ordinary program.
    pub(super) fn is_command(&self) -> bool {
        matches!(self.kind(), HandlerKind::Command | HandlerKind::Preview1Command)
    }

    /// Whether it speaks HTTP, so that a connection brings it many requests.
    pub(crate) fn speaks_http(&self) -> bool {
        self.kind() == HandlerKind::Http
    }

    /// Why it cannot serve what servers of a type bring it, if it cannot.
    pub fn unfit_for(&self, server_type: ServerType) -> Option<&'static str> {
        (self.speaks_http() && server_type.is_datagram()).then_some(NO_HTTP_IN_DATAGRAMS)
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }

    pub(super) fn store(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        serves: Serves<'_>,
        watch: &Arc<Watch>,
    ) -> Store<State> {
        let sandbox = &self.0.sandbox;
        let mut state = State::new(sandbox, server, &self.0.digest, version, serves, watch);
        state.program = self.is_command().then(|| self.0.name.clone());
        let mut store = Store::new(self.0.linked.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(sandbox.limits().call_bytes);
        store.set_max_component_handles(sandbox.limits().resources.saturating_mul(HANDLES_A_RESOURCE));
        store.set_epoch_deadline(1);
        match self.0.sampling.get().cloned() {
            None => store.epoch_deadline_callback(|context| context.data().watch.on_tick()),
            Some(sampling) => store.epoch_deadline_callback(move |context| {
                sampling.sample(&context);
                context.data().watch.on_tick()
            }),
        }
        store
    }

    /// Serves one request, whose connection is protected first where its listener says so.
    pub(crate) async fn serve(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
    ) -> Result<(), RequestError> {
        let wanted = Wanted::default();
        // Pinned here and below, as a future that is handed on would be there twice.
        let serving = pin!(self.serve_protected(server, version, request, watch));
        self.protecting(request, watch, wanted, serving).await
    }

    /// Serves one connection that brings requests of HTTP, likewise; `exchanges` says by which handlers.
    pub(crate) async fn serve_http(
        &self,
        server: &Arc<ServerInfo>,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
        exchanges: Arc<dyn Exchanges>,
    ) -> Result<(), RequestError> {
        let wanted = Wanted { default_alpn: http::ALPN.map(str::to_owned).into(), ..Wanted::default() };
        let served = http::serve(server, self.0.sandbox.limits(), request, watch, exchanges);
        self.protecting(request, watch, wanted, served).await
    }

    async fn protecting(
        &self,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
        wanted: Wanted,
        serving: impl Future<Output = Result<(), RequestError>>,
    ) -> Result<(), RequestError> {
        if request.is_to_be_protected() {
            boxed(|| self.protect(request, watch, wanted)).await?;
        }
        serving.await?;
        if request.tls().is_some() {
            boxed(|| self.say_end(request, watch)).await;
        }
        Ok(())
    }

    /// A client that is not told so has not got all. One that takes nothing more need not be told.
    async fn say_end(&self, request: &Request, watch: &Watch) {
        let deadline = Deadlines::new(self.0.sandbox.limits(), watch).next();
        let patience = Patience { waits: watch.waits(), deadline };
        let _ = watch.over(request.say_end(patience)).await;
    }

    /// The handshake; no instance is there yet, so that one that does not end costs what an idle connection does.
    async fn protect(&self, request: &Request, watch: &Watch, wanted: Wanted) -> Result<(), RequestError> {
        watch.enter(Phase::Handshake);
        let deadline = Deadlines::new(self.0.sandbox.limits(), watch).of_request();
        let patience = Patience { waits: watch.waits(), deadline };
        let shaken = watch.over(request.start_tls(wanted, patience)).await;
        let cause = match (watch.reached(), shaken) {
            (Some(limit), _) => Cause::Limit(limit),
            (None, Ok(Ok(_))) => {
                watch.enter(Phase::Instantiate);
                return Ok(());
            }
            (None, Ok(Err(TlsError::Host(reason) | TlsError::NoIdentity(reason)))) => Cause::Host(reason),
            (None, Ok(Err(error))) => match request.client_fault() {
                Some(ClientFault::Unprotected(time)) => Cause::Limit(Limit::TlsHandshake(time)),
                Some(ClientFault::Slow) if let Some(rate) = self.0.sandbox.limits().min_rate => {
                    Cause::Limit(Limit::MinRate(rate))
                }
                _ => Cause::Tls(excerpt(&error.to_string())),
            },
            (None, Err(cause)) => cause,
        };
        Err(RequestError { phase: Phase::Handshake, cause })
    }

    /// Serves one request in a fresh instance: `setup`, `handle`, `finish`, in `socketserver`'s order, or an
    /// ordinary program's `run`.
    async fn serve_protected(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
    ) -> Result<(), RequestError> {
        let run = async |live: &mut Live| match self.guest(live).await? {
            (Guest::Contract(handler), store) => run_phases(handler, store).await,
            (Guest::Command(program), store) => {
                command::run(async |store| program.call_run(store).await, store).await
            }
            (Guest::Start(program), store) => {
                command::run(async |store| Ok(Ok(program.call_async(store, ()).await?)), store).await
            }
            (Guest::Http(_), _) => unreachable!("`http::serve` serves it"),
        };
        self.with_instance(server, version, Serves::Request(request), watch, run).await
    }

    /// Has a fresh instance answer one request of HTTP.
    pub(super) async fn exchange(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        watch: &Arc<Watch>,
        http: HttpRequest,
    ) -> Result<(), RequestError> {
        let serves = Serves::Http(http.id);
        let run = async |live: &mut Live| match self.guest(live).await? {
            (Guest::Http(handler), store) => http::run(handler, store, http).await,
            _ => Err(Cause::Host("it is no HTTP handler".to_owned())),
        };
        self.with_instance(server, version, serves, watch, run).await
    }

    /// Serves with an instance that is there, or a new one, and keeps it if it may serve again.
    async fn with_instance(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        serves: Serves<'_>,
        watch: &Arc<Watch>,
        run: impl AsyncFnOnce(&mut Live) -> Result<(), Cause>,
    ) -> Result<(), RequestError> {
        let reused = || self.idle().as_mut().and_then(Vec::pop).map(|live| (live, InstanceOrigin::Reused));
        let ahead = || self.0.warm.take().map(|live| (live, InstanceOrigin::Ahead));
        let mut live = match reused().or_else(ahead) {
            Some((mut live, origin)) => {
                watch.note_instance(origin);
                live.store.data_mut().renew(server, version, serves, watch);
                live
            }
            None => {
                watch.note_instance(InstanceOrigin::New);
                let store = self.store(server, version, serves, watch);
                Live { store, guest: None, served: 0 }
            }
        };
        let ran = watch.over(pin!(run(&mut live))).await.flatten();
        if let Err(cause) = ran {
            // After a trap or a cut its store must not be entered again; after an error nobody knows its state.
            let phase = watch.phase();
            let number = serves.number().unwrap_or_default();
            let cause = self.with_core_dump(cause, number, phase, live.store, watch.waits()).await;
            return Err(RequestError { phase, cause });
        }
        live.served += 1;
        // A program is run once.
        if !self.is_command() && live.served < self.0.sandbox.limits().reuse {
            live.store.data_mut().request = None;
            if let Some(idle) = &mut *self.idle() {
                idle.push(live);
            }
        }
        Ok(())
    }

    /// The cause, with what a debugger wants to see of a guest that has trapped.
    pub(super) async fn with_core_dump(
        &self,
        mut cause: Cause,
        request: u64,
        phase: Phase,
        mut store: Store<State>,
        waits: Waits,
    ) -> Cause {
        if let (Cause::Trap { core_dump, .. }, Some(trap)) = (&mut cause, store.data_mut().trap.take()) {
            let subject = Subject { handler: self.name(), digest: self.digest(), request, phase };
            *core_dump = self.0.sandbox.core_dumps().keep(&subject, store, trap, waits).await;
        }
        cause
    }

    /// Whether to keep instances for further requests: what a replaced version keeps would be missing in the
    /// pools for the one that serves.
    pub(crate) fn keep_idle(&self, keep: bool) {
        let mut idle = self.idle();
        let dropped = if keep {
            idle.get_or_insert_default();
            None
        } else {
            idle.take()
        };
        drop(idle);
        drop(dropped);
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Live>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection that the caller made, without a server: for trying a handler out. Returns when
    /// the handler has finished and the connection is half-closed; the handler finds it a Unix stream.
    pub fn call(&self, connection: OwnedFd) -> Result<(), RequestError> {
        let server = ServerInfo { name: "call".to_owned(), ..ServerInfo::none() };
        self.call_as(&Arc::new(server), connection, Duration::MAX)
    }

    /// The same for a client of TLS: the handler protects the connection, if it does that, and else the host.
    pub fn call_protected(&self, connection: OwnedFd, tls: Tls) -> Result<(), RequestError> {
        let server = ServerInfo { name: "call".to_owned(), ..ServerInfo::none() };
        let is_first = !self.0.linked.component().is_some_and(component::starts_tls);
        let tls = StreamTls { keeper: ServerTls::new(tls), is_first };
        let transport = Transport::Stream(Stream::new(connection.into(), None, Some(tls)));
        self.call_with(&Arc::new(server), UnixAddress::Unnamed, transport, Duration::MAX)
    }

    /// Serves one packet without a server. The replies, in order, and how the call ended.
    pub fn call_datagram(&self, packet: Vec<u8>) -> (Vec<Vec<u8>>, Result<(), RequestError>) {
        let (name, server_type) = ("call".to_owned(), ServerType::UnixDatagram);
        let server = ServerInfo { name, server_type, ..ServerInfo::none() };
        self.call_datagram_as(&Arc::new(server), packet, Duration::MAX)
    }

    /// Like [`call`](Self::call) as a server's request, and for no longer than `time`.
    pub(crate) fn call_as(
        &self,
        server: &Arc<ServerInfo>,
        connection: OwnedFd,
        time: Duration,
    ) -> Result<(), RequestError> {
        let transport = Transport::Stream(Stream::new(connection.into(), None, None));
        self.call_with(server, UnixAddress::Unnamed, transport, time)
    }

    /// Like [`call_datagram`](Self::call_datagram) as a server's request, and for no longer than `time`.
    pub(crate) fn call_datagram_as(
        &self,
        server: &Arc<ServerInfo>,
        packet: Vec<u8>,
        time: Duration,
    ) -> (Vec<Vec<u8>>, Result<(), RequestError>) {
        let pair = DatagramSocket::pair().and_then(|(socket, client)| {
            client.set_nonblocking(true)?;
            Ok((socket, client))
        });
        let (socket, client) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                return (Vec::new(), Err(RequestError::host(Phase::Instantiate, error.to_string())));
            }
        };
        let transport = Transport::Datagram(Datagram::new(Arc::new(socket), packet, None));
        let called = self.call_with(server, UnixAddress::Abstract(CALLER.to_vec()), transport, time);
        // All replies were sent before the handler finished.
        let mut buffer = vec![0; PACKET_MAX];
        let replies =
            std::iter::from_fn(|| client.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
        (replies.collect(), called)
    }

    fn call_with(
        &self,
        server: &Arc<ServerInfo>,
        client: UnixAddress,
        transport: Transport,
        time: Duration,
    ) -> Result<(), RequestError> {
        let request = Arc::new(Request::new(client.into(), None, transport));
        let limits = self.0.sandbox.limits();
        let (version, waits) = (VersionInfo::default(), Waits::Thread);
        if !self.speaks_http() {
            let watch = Arc::new(Watch::at_most(time, limits, waits));
            return block_on(async {
                let served = self.serve(server, &version, &request, &watch).await;
                request.shutdown_request(waits).await;
                served
            });
        }
        if request.packet().is_some() {
            return Err(RequestError::host(Phase::Instantiate, NO_HTTP_IN_DATAGRAMS.to_owned()));
        }
        let watch = Arc::new(Watch::at_most(time, limits, Waits::Task));
        let first_failure = Arc::new(OnceLock::new());
        let noted = first_failure.clone();
        let exchanges = Arc::new(Fixed {
            handler: self.clone(),
            version,
            time: Some(time),
            closing: None,
            handover: None,
            more_room: Box::new(|| None),
            server: server.clone(),
            answers: AnswerCount::default(),
            refused: Mutex::default(),
            ended: move |served: Result<(), RequestError>, _, _| {
                if let Err(error) = served {
                    let _ = noted.set(error);
                }
            },
        });
        let served = runtime::drive(async {
            let served = self.serve_http(server, &request, &watch, exchanges).await;
            request.shutdown_request(Waits::Task).await;
            served
        });
        let served = served.map_err(|error| RequestError::host(Phase::Instantiate, error.to_string()));
        // What failed of the one request says more than that the connection did.
        served.flatten().and(first_failure.get().cloned().map_or(Ok(()), Err))
    }

    /// The guest, which is instantiated if it was not yet.
    async fn guest<'a>(&self, live: &'a mut Live) -> Result<(&'a Guest, &'a mut Store<State>), Cause> {
        let Live { store, guest, .. } = live;
        let guest = match guest {
            Some(guest) => guest,
            None => {
                let made = self.0.linked.instantiate(store).await;
                guest.insert(made.map_err(|error| failed(store, error))?)
            }
        };
        Ok((guest, store))
    }
}

impl Live {
    /// Whether the guest may know its environment, the time or random numbers by now.
    pub(super) fn has_used_wasi(&self) -> bool {
        self.store.data().has_used_wasi()
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handler({}, {})", self.name(), self.digest())
    }
}

/// `setup`, `handle`, `finish`.
async fn run_phases(handler: &request_handler::Guest, store: &mut Store<State>) -> Result<(), Cause> {
    let watch = store.data().watch.clone();
    watch.enter(Phase::Setup);
    ended(handler.call_setup(&mut *store, RequestResource::borrowed()).await, store)??;
    watch.enter(Phase::Handle);
    let handled = ended(handler.call_handle(&mut *store, RequestResource::borrowed()).await, store)?;
    // As in `socketserver`, an error from `handle` does not keep `finish` from running.
    watch.enter(Phase::Finish);
    let finished = ended(handler.call_finish(&mut *store, RequestResource::borrowed()).await, store)?;
    let flushed = store.data().request_handle().flush(store.data().patience()).await;
    if handled.is_err() {
        watch.enter(Phase::Handle);
        return handled;
    }
    finished?;
    flushed.map_err(|error| store.data().client_cause(&error.to_string()))
}

/// A phase's end: the outer error is a trap, after which the instance is gone; the inner one is the handler's.
fn ended(
    result: wasmtime::Result<Result<(), String>>,
    store: &mut Store<State>,
) -> Result<Result<(), Cause>, Cause> {
    match result {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(message)) if store.data().request_handle().client_fault().is_some() => {
            Ok(Err(store.data().client_cause(&message)))
        }
        Ok(Err(message)) => Ok(Err(Cause::Error(excerpt(&message)))),
        Err(error) => Err(failed(store, error)),
    }
}

/// What really ended a guest: a limit that it reached, or its own trap.
pub(super) fn cause(store: &Store<State>, error: &wasmtime::Error) -> Cause {
    let State { watch, sandbox, .. } = store.data();
    let limits = sandbox.limits();
    if let Some(limit) = error.downcast_ref::<Limit>() {
        return Cause::Limit(*limit);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Cause::Limit(Limit::Resources(limits.resources));
    }
    if is_the_hosts(error) {
        return Cause::Host(error.root_cause().to_string());
    }
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        return Cause::Error(format!("it called exit({status})"));
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::StackOverflow) {
        return Cause::Limit(Limit::Stack(limits.stack));
    }
    // A guest whose growth is refused gives up by `unreachable`, if at all; what is collected grows by itself. Without
    // a trap, its beginning was refused.
    let may_be_refusal = match trap {
        Some(trap) => *trap == Trap::UnreachableCodeReached,
        None => watch.phase() == Phase::Instantiate || error.is::<GcHeapOutOfMemory<()>>(),
    };
    if let Some(limit) = watch.refused().filter(|_| may_be_refusal) {
        return Cause::Limit(limit);
    }
    let message = trap.map_or_else(|| error.root_cause().to_string(), Trap::to_string);
    // wasmtime has no public types for these two.
    if message.ends_with("store handle limit exceeded") {
        return Cause::Limit(Limit::Resources(limits.resources));
    }
    if message.ends_with("fuel allocated for hostcalls has been exhausted") {
        return Cause::Limit(Limit::CallBytes(limits.call_bytes));
    }
    let trace = error.downcast_ref::<WasmBacktrace>();
    let frames = trace.map(WasmBacktrace::frames).unwrap_or_default();
    Cause::Trap {
        message: excerpt(&message),
        backtrace: excerpt(&trace.map(backtrace).unwrap_or_default()),
        offsets: frames.iter().map(|frame| frame.module_offset().unwrap_or_default() as u64).collect(),
        core_dump: None,
    }
}

/// The same, of a request: keeps a trap of which a core dump is made.
pub(super) fn failed(store: &mut Store<State>, error: wasmtime::Error) -> Cause {
    let cause = cause(store, &error);
    if matches!(cause, Cause::Trap { .. }) && error.is::<WasmCoreDump>() {
        store.data_mut().trap = Some(error);
    }
    cause
}

/// Whether the system, or this host's own bounds, had nothing left for a guest that had done nothing wrong.
fn is_the_hosts(error: &wasmtime::Error) -> bool {
    let root = error.root_cause();
    root.is::<io::Error>()
        || root.is::<Errno>()
        || root.is::<wasmtime::OutOfMemory>()
        || root.is::<wasmtime::PoolConcurrencyLimitError>()
        || error.is::<io::Error>()
}

/// One frame a line, with the names that the guest has given to its functions.
fn backtrace(trace: &WasmBacktrace) -> String {
    let mut text = trace.to_string();
    // A name may look like lines of the log, which only escaping the whole of it shows.
    for frame in trace.frames() {
        for name in [frame.module().name(), frame.func_name()].into_iter().flatten() {
            if name.contains(char::is_control) {
                text = text.replace(name, &one_line(name));
            }
        }
    }
    text.lines().map(|line| one_line(line) + "\n").collect()
}
