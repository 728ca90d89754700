//! What a store holds while it serves one request.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::Sandbox;
use super::limits::{Deadlines, Meter, Watch};
use super::network::Reachable;
use super::wasi::GuestLog;
use crate::request::Request;
use crate::server::ServerInfo;
use crate::slot::VersionInfo;

pub(super) struct State {
    pub(super) sandbox: Sandbox,
    pub(super) server: Arc<ServerInfo>,
    pub(super) digest: Arc<str>,
    pub(super) version: VersionInfo,
    /// `None` in a hook that is not about a request.
    pub(super) request: Option<Arc<Request>>,
    /// A hook looks at the request before it is served: its connection must not be read or written yet.
    pub(super) is_verifying: bool,
    pub(super) deadlines: Deadlines,
    pub(super) watch: Arc<Watch>,
    pub(super) meter: Meter,
    pub(super) table: ResourceTable,
    pub(super) reachable: Reachable,
    /// Made when the guest first uses WASI; most handlers never do.
    wasi: Option<WasiCtx>,
    log: GuestLog,
}

impl State {
    pub(super) fn new(
        sandbox: &Sandbox,
        server: &Arc<ServerInfo>,
        digest: &Arc<str>,
        version: &VersionInfo,
        request: Option<&Arc<Request>>,
        watch: &Arc<Watch>,
    ) -> Self {
        let limits = sandbox.limits();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        Self {
            sandbox: sandbox.clone(),
            server: server.clone(),
            digest: digest.clone(),
            version: version.clone(),
            request: request.cloned(),
            is_verifying: false,
            deadlines: Deadlines::new(limits, watch),
            watch: watch.clone(),
            meter: Meter::new(limits),
            table,
            reachable: Reachable::new(&sandbox.grants().net),
            wasi: None,
            log: GuestLog::new(request.map(|request| request.id())),
        }
    }
}

impl State {
    /// Makes an instance that has served ready for another request.
    pub(super) fn renew(&mut self, request: &Arc<Request>, watch: &Arc<Watch>) {
        self.request = Some(request.clone());
        self.watch = watch.clone();
        self.deadlines = Deadlines::new(self.sandbox.limits(), watch);
        self.log.set_request(request.id());
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            crate::runtime::enter();
            self.sandbox.grants().wasi_ctx(&self.log, &self.reachable)
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}
