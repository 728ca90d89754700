//! A checked, compiled and linked component, and the serving of one request by it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::contract::{request_handler, server_hooks};
use super::limits::Watch;
use super::request::{RequestResource, contract_address};
use super::state::State;
use super::{Sandbox, cache};
use crate::address::{ServerType, UnixAddress};
use crate::block_on::block_on;
use crate::error::{Cause, HandlerError, Limit, Phase, RequestError};
use crate::listener::DatagramSocket;
use crate::request::{Datagram, Request, Stream, Transport};
use crate::server::ServerInfo;

/// The interface that every handler exports.
const CONTRACT: &str = "plugsock:handler/request-handler@0.1.0";

/// A component that is ready to serve. Cloning is cheap.
#[derive(Clone)]
pub struct Handler(Arc<Inner>);

struct Inner {
    sandbox: Sandbox,
    name: String,
    digest: Arc<str>,
    instance: InstancePre<State>,
    request_handler: request_handler::GuestIndices,
    server_hooks: Option<server_hooks::GuestIndices>,
}

/// What a file is and whether this host can serve it.
#[derive(Debug)]
pub struct Inspection {
    /// SHA-256 of the file, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its size in bytes.
    pub size: usize,
    /// The interfaces and functions that it asks for.
    pub imports: Vec<String>,
    /// The interfaces and functions that it offers.
    pub exports: Vec<String>,
    /// Why it cannot be served, if so.
    pub verdict: Result<(), HandlerError>,
}

impl Handler {
    pub(super) fn new(sandbox: &Sandbox, name: String, bytes: &[u8]) -> Result<Self, HandlerError> {
        let unfit = |reason: String| HandlerError::Unfit { name: name.clone(), reason };
        let digest = digest(bytes);
        let component = compile(sandbox, bytes, &digest).map_err(unfit)?;
        Self::link(sandbox, &name, digest, &component).map_err(unfit)
    }

    /// The compiled code, in a file without a name, for a process that is to serve it too.
    pub(crate) fn precompiled(&self) -> io::Result<OwnedFd> {
        let code = self.0.instance.component().serialize().map_err(io::Error::other)?;
        let memfd = rustix::fs::memfd_create("handler", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(memfd);
        file.write_all(&code)?;
        let memfd = OwnedFd::from(file);
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(memfd)
    }

    /// The handler that [`Handler::precompiled`] wrote.
    pub(super) fn from_precompiled(
        sandbox: &Sandbox,
        name: &str,
        digest: &str,
        code: OwnedFd,
    ) -> Result<Self, HandlerError> {
        let unfit = |reason| HandlerError::Unfit { name: name.to_owned(), reason };
        let bytes = read_all(code).map_err(|error| unfit(error.to_string()))?;
        // SAFETY: the host that started this process compiled it, and sealed it against any change since.
        let component = unsafe { Component::deserialize(&sandbox.0.engine, bytes) };
        let component = component.map_err(|error| unfit(format!("{error:#}")))?;
        Self::link(sandbox, name, digest.to_owned(), &component).map_err(unfit)
    }

    fn link(sandbox: &Sandbox, name: &str, digest: String, component: &Component) -> Result<Self, String> {
        check_version(component)?;
        let instance = sandbox.0.linker.instantiate_pre(component).map_err(|error| {
            let hint = hint(&error);
            format!("it asks for what this host does not have: {error:#}{hint}")
        })?;
        let request_handler = request_handler::GuestIndices::new(&instance).map_err(|_| {
            let exports = names(component.component_type().exports(component.engine()));
            let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            format!("it does not export {CONTRACT}, as every handler does; it exports {exports}")
        })?;
        let server_hooks = server_hooks::GuestIndices::new(&instance).ok();
        let handler = Self(Arc::new(Inner {
            sandbox: sandbox.clone(),
            name: name.to_owned(),
            digest: digest.into(),
            instance,
            request_handler,
            server_hooks,
        }));
        handler.try_out()?;
        Ok(handler)
    }

    /// Makes one instance and drops it, so that exports of wrong types and a too large beginning show now.
    #[doc(hidden)]
    pub fn try_out(&self) -> Result<(), String> {
        let watch = Arc::new(Watch::for_hook(self.0.sandbox.limits()));
        let mut store = self.store(&Arc::new(ServerInfo::none()), 0, None, &watch);
        let try_out = async {
            let instance = self.0.instance.instantiate_async(&mut store).await?;
            self.0.request_handler.load(&mut store, &instance)?;
            if let Some(hooks) = &self.0.server_hooks {
                hooks.load(&mut store, &instance)?;
            }
            Ok::<(), wasmtime::Error>(())
        };
        let tried = block_on(watch.over(try_out), watch.deadline());
        let reason = match tried {
            Some(Ok(Ok(()))) => return Ok(()),
            Some(Ok(Err(error))) => match store.data().meter.refused {
                Some(limit) => limit.to_string(),
                None => format!("{error:#}"),
            },
            Some(Err(cause)) => cause.to_string(),
            None => "it takes too long".to_owned(),
        };
        Err(format!("it cannot be instantiated: {reason}"))
    }

    /// What the handler is called: its file's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// SHA-256 of the component, as `sha256:` and 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }

    fn store(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
        request: Option<&Arc<Request>>,
        watch: &Arc<Watch>,
    ) -> Store<State> {
        let sandbox = &self.0.sandbox;
        let state = State::new(sandbox, server, &self.0.digest, generation, request, watch);
        let mut store = Store::new(&sandbox.0.engine, state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(sandbox.limits().call_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| context.data().watch.on_tick());
        store
    }

    /// Serves one request in a fresh instance: `setup`, `handle`, `finish`, in `socketserver`'s order.
    pub(crate) async fn serve(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
    ) -> Result<(), RequestError> {
        let mut store = self.store(server, generation, Some(request), watch);
        let served = watch.over(self.run_phases(&mut store)).await;
        served.flatten().map_err(|cause| RequestError { phase: watch.phase(), cause })
    }

    /// Serves one request on this thread, which serves nothing else meanwhile.
    pub(crate) fn serve_here(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
    ) -> Result<(), RequestError> {
        block_on(self.serve(server, generation, request, watch), watch.deadline())
            .unwrap_or_else(|| Err(watch.timed_out()))
    }

    /// Serves one connection that the caller made, without a server: for trying a handler out. Returns when
    /// the handler has finished and the connection is half-closed; the handler finds it a Unix stream.
    pub fn call(&self, connection: OwnedFd) -> Result<(), RequestError> {
        let transport = Transport::Stream(Stream::new(connection.into()));
        self.call_with(ServerType::UnixStream, UnixAddress::Unnamed, transport)
    }

    /// Serves one packet without a server; replies go to `client`, a Unix datagram socket's name.
    pub fn call_datagram(&self, packet: Vec<u8>, client: UnixAddress) -> Result<(), RequestError> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)
            .and_then(|socket| DatagramSocket::new(socket, ServerType::UnixDatagram))
            .map_err(|error| RequestError::host(Phase::Instantiate, error.to_string()))?;
        let transport = Transport::Datagram(Datagram::new(Arc::new(socket), packet, None));
        self.call_with(ServerType::UnixDatagram, client, transport)
    }

    fn call_with(
        &self,
        server_type: ServerType,
        client: UnixAddress,
        transport: Transport,
    ) -> Result<(), RequestError> {
        let info = ServerInfo { name: "call".to_owned(), server_type, ..ServerInfo::none() };
        let request = Arc::new(Request::new(client.into(), None, transport));
        let watch = Arc::new(Watch::new(self.0.sandbox.limits(), request.waits));
        let served = self.serve_here(&Arc::new(info), 1, &request, &watch);
        block_on(request.shutdown_request(), None);
        served
    }

    /// Leaves the watch in the phase that failed.
    async fn run_phases(&self, store: &mut Store<State>) -> Result<(), Cause> {
        let watch = store.data().watch.clone();
        let instance = match self.0.instance.instantiate_async(&mut *store).await {
            Ok(instance) => instance,
            Err(error) => return Err(cause(store, &error)),
        };
        let guest = match self.0.request_handler.load(&mut *store, &instance) {
            Ok(guest) => guest,
            Err(error) => return Err(cause(store, &error)),
        };
        watch.enter(Phase::Setup);
        ended(guest.call_setup(&mut *store, RequestResource::borrowed()).await, store)??;
        watch.enter(Phase::Handle);
        let handled = ended(guest.call_handle(&mut *store, RequestResource::borrowed()).await, store)?;
        // As in `socketserver`, an error from `handle` does not keep `finish` from running.
        watch.enter(Phase::Finish);
        let finished = ended(guest.call_finish(&mut *store, RequestResource::borrowed()).await, store)?;
        let deadline = store.data().deadlines.next();
        let flushed = store.data().request_handle().flush(deadline).await;
        if handled.is_err() {
            watch.enter(Phase::Handle);
            return handled;
        }
        finished?;
        flushed.map_err(|error| Cause::Client(error.to_string()))
    }

    /// Whether the component exports `server-hooks`.
    pub fn has_hooks(&self) -> bool {
        self.0.server_hooks.is_some()
    }

    /// Runs the `verify-request` hook. A hook that fails refuses the request.
    pub(crate) async fn verify_request(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
        request: &Arc<Request>,
    ) -> Result<bool, RequestError> {
        self.hook(server, generation, Some(request), async |hooks, store| {
            store.data_mut().is_verifying = true;
            hooks.call_verify_request(store, RequestResource::borrowed()).await
        })
        .await
        .map(|verdict| verdict.unwrap_or(true))
    }

    /// Runs the `handle-error` hook.
    pub(crate) async fn handle_error(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
        request: &Request,
        error: &RequestError,
    ) -> Result<(), RequestError> {
        let failure = server_hooks::Failure {
            id: request.id(),
            client_address: contract_address(request.client_address()),
            phase: match error.phase {
                Phase::Verify => server_hooks::Phase::Verify,
                Phase::Instantiate | Phase::Setup => server_hooks::Phase::Setup,
                Phase::Handle => server_hooks::Phase::Handle,
                Phase::Finish => server_hooks::Phase::Finish,
            },
            message: error.cause.to_string(),
        };
        self.hook(server, generation, None, async |hooks, store| {
            let server = store.data().server_info();
            hooks.call_handle_error(store, &server, &failure).await
        })
        .await
        .map(drop)
    }

    /// Runs the `handle-timeout` hook.
    pub(crate) async fn handle_timeout(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
    ) -> Result<(), RequestError> {
        self.hook(server, generation, None, async |hooks, store| {
            let server = store.data().server_info();
            hooks.call_handle_timeout(store, &server).await
        })
        .await
        .map(drop)
    }

    /// Runs the `service-actions` hook.
    pub(crate) async fn service_actions(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
    ) -> Result<(), RequestError> {
        self.hook(server, generation, None, async |hooks, store| {
            let server = store.data().server_info();
            hooks.call_service_actions(store, &server).await
        })
        .await
        .map(drop)
    }

    /// Calls a hook in a fresh instance; `None` if the component has none.
    async fn hook<T>(
        &self,
        server: &Arc<ServerInfo>,
        generation: u64,
        request: Option<&Arc<Request>>,
        call: impl AsyncFnOnce(server_hooks::Guest, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Option<T>, RequestError> {
        let Some(hooks) = &self.0.server_hooks else { return Ok(None) };
        let watch = Arc::new(Watch::for_hook(self.0.sandbox.limits()));
        let mut store = self.store(server, generation, request, &watch);
        let called = watch
            .over(async {
                let instance = self.0.instance.instantiate_async(&mut store).await?;
                let guest = hooks.load(&mut store, &instance)?;
                call(guest, &mut store).await
            })
            .await;
        let cause = match called {
            Ok(Ok(value)) => return Ok(Some(value)),
            Ok(Err(error)) => cause(&store, &error),
            Err(cause) => cause,
        };
        Err(RequestError { phase: Phase::Verify, cause })
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handler({}, {})", self.name(), self.digest())
    }
}

impl Sandbox {
    /// Says what a file is, and whether this host can serve it.
    pub fn inspect(&self, name: impl Into<String>, bytes: &[u8]) -> Inspection {
        let name = name.into();
        let digest = digest(bytes);
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        let verdict = compile(self, bytes, &digest).and_then(|component| {
            imports = names(component.component_type().imports(component.engine()));
            exports = names(component.component_type().exports(component.engine()));
            Handler::link(self, &name, digest.clone(), &component)
        });
        let verdict = verdict.map(drop).map_err(|reason| HandlerError::Unfit { name, reason });
        Inspection { digest, size: bytes.len(), imports, exports, verdict }
    }
}

/// A file from its beginning: who wrote it left the descriptor at its end.
fn read_all(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", cache::hex(&Sha256::digest(bytes)))
}

/// Compiles a component, or takes it from the cache; says in words what else the bytes are.
fn compile(sandbox: &Sandbox, bytes: &[u8], digest: &str) -> Result<Component, String> {
    // A wasm file's version field: components and core modules differ in its upper half, the layer.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if bytes.starts_with(CORE_MODULE) {
        return Err(
            "it is a core WebAssembly module, not a component; build it for wasm32-wasip2, or turn it \
                    into a component with `wasm-tools component new`"
                .to_owned(),
        );
    }
    if bytes.starts_with(b"\x7fELF") {
        return Err("it is native code, perhaps a precompiled component, which is never loaded; give the \
                    WebAssembly component itself"
            .to_owned());
    }
    if !bytes.starts_with(b"\0asm") {
        return Err("it is not WebAssembly; build a component for wasm32-wasip2".to_owned());
    }
    if !bytes.starts_with(COMPONENT) {
        return Err("it is truncated, or a WebAssembly format that this host does not know".to_owned());
    }
    let engine = &sandbox.0.engine;
    if let Some(component) = sandbox.0.cache.as_ref().and_then(|cache| cache.load(engine, digest)) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, bytes)
        .map_err(|error| format!("it is not a valid component: {error:#}"))?;
    if let Some(cache) = &sandbox.0.cache {
        cache.store(&component, digest);
    }
    Ok(component)
}

/// A component of another contract version deserves a better word than a missing export.
fn check_version(component: &Component) -> Result<(), String> {
    let (interface, version) = CONTRACT.split_once('@').expect("the contract has a version");
    let package = interface.split_once('/').expect("it is an interface of a package").0;
    let component_type = component.component_type();
    let engine = component.engine();
    for name in names(component_type.exports(engine)).iter().chain(&names(component_type.imports(engine))) {
        let Some((other, built_for)) = name.split_once('@') else { continue };
        if other.split('/').next() == Some(package) && built_for != version {
            return Err(format!(
                "it was built for version {built_for} of the contract {package}, and this host has \
                 {version}; build it with the plugsock-sdk of this host"
            ));
        }
    }
    Ok(())
}

fn names<'a>(
    items: impl Iterator<Item = (&'a str, wasmtime::component::types::ComponentExtern<'a>)>,
) -> Vec<String> {
    items
        // Types alone are no interface.
        .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_) | ComponentItem::Resource(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What to do about a missing import that is well known.
fn hint(error: &wasmtime::Error) -> &'static str {
    let text = format!("{error:#}");
    if text.contains("wasi:http") {
        "; wasi:http is not offered: a handler speaks HTTP over its own connection"
    } else if text.contains("wasi:") && text.contains("@0.3") {
        "; WASI 0.3 is not offered yet: build for WASI 0.2"
    } else {
        ""
    }
}

/// A phase's end: the outer error is a trap, after which the instance is gone; the inner one is the handler's.
fn ended(
    result: wasmtime::Result<Result<(), String>>,
    store: &Store<State>,
) -> Result<Result<(), Cause>, Cause> {
    match result {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(message)) if store.data().request_handle().is_client_gone() => Ok(Err(Cause::Client(message))),
        Ok(Err(message)) => Ok(Err(Cause::Error(message))),
        Err(error) => Err(cause(store, &error)),
    }
}

/// What really ended a guest: a limit that it reached, or its own trap.
fn cause(store: &Store<State>, error: &wasmtime::Error) -> Cause {
    if let Some(limit) = error.downcast_ref::<Limit>() {
        return Cause::Limit(*limit);
    }
    if let Some(limit) = store.data().meter.refused {
        return Cause::Limit(limit);
    }
    if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
        return Cause::Error(format!("it called exit({status})"));
    }
    let message = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::to_string).unwrap_or_default();
    Cause::Trap { message, backtrace }
}
