//! What a store holds while it serves one request.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_tls::WasiTlsCtx;

use super::command::Stdio;
use super::drops::Orphans;
use super::guest_log::GuestLog;
use super::limits::{Deadlines, Meter, Watch};
use super::network::Reachable;
use super::preview1::Preview1;
use super::streams::Connection;
use super::tls_client::Tls;
use super::version_info::VersionInfo;
use super::{Sandbox, ucspi};
use crate::error::{Cause, Limit, excerpt};
use crate::request::{ClientFault, Patience, Request};
use crate::server_info::ServerInfo;

pub(super) struct State {
    pub(super) sandbox: Sandbox,
    pub(super) server: Arc<ServerInfo>,
    pub(super) digest: Arc<str>,
    pub(super) version: VersionInfo,
    /// `None` in a hook that is not about a request.
    pub(super) request: Option<Arc<Request>>,
    /// The name of the ordinary program that the guest is; the request is its standard input and output.
    pub(super) program: Option<Arc<str>>,
    /// A hook looks at the request before it is served: its connection must not be read or written yet.
    pub(super) is_verifying: bool,
    pub(super) deadlines: Deadlines,
    pub(super) watch: Arc<Watch>,
    pub(super) meter: Meter,
    pub(super) table: ResourceTable,
    pub(super) orphans: Orphans,
    pub(super) reachable: Reachable,
    /// What the guest trapped by, where core dumps are made.
    pub(super) trap: Option<wasmtime::Error>,
    /// Made when the guest first uses WASI; most handlers never do.
    wasi: Option<Wasi>,
    /// The same for a core module.
    preview1: Option<Box<Preview1>>,
    /// Made when the guest first uses TLS.
    tls: Option<Tls>,
}

struct Wasi {
    ctx: WasiCtx,
    /// What the guest prints goes there.
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
            program: None,
            is_verifying: false,
            deadlines: Deadlines::new(limits, watch),
            watch: watch.clone(),
            meter: Meter::new(limits, watch),
            table,
            orphans: Orphans::default(),
            reachable: Reachable::new(&sandbox.grants().net),
            trap: None,
            wasi: None,
            preview1: None,
            tls: None,
        }
    }
}

impl State {
    /// Gives an instance that was there before its request the request to serve.
    pub(super) fn renew(
        &mut self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        request: &Arc<Request>,
        watch: &Arc<Watch>,
    ) {
        let log = self.wasi.as_ref().map(|wasi| &wasi.log);
        if let Some(log) = log.or_else(|| self.preview1.as_ref().map(|preview1| &preview1.log)) {
            enter_runtime();
            log.set_request(request.id());
        }
        if let Some(tls) = &self.tls {
            enter_runtime();
            tls.renew(watch);
        }
        self.server = server.clone();
        self.version = version.clone();
        self.request = Some(request.clone());
        self.watch = watch.clone();
        self.meter.renew(watch);
        self.deadlines = Deadlines::new(self.sandbox.limits(), watch);
    }

    /// How long an operation on the client that starts now may wait, and where.
    pub(super) fn patience(&self) -> Patience {
        Patience { waits: self.watch.waits(), deadline: self.deadlines.next() }
    }

    /// How long a TLS handshake that starts now may wait, and where; the limit of its own comes besides.
    pub(super) fn handshake_patience(&self) -> Patience {
        Patience { waits: self.watch.waits(), deadline: self.deadlines.of_request() }
    }

    /// Why a request ends whose guest could not go on with its client; `message` is what it says of that.
    pub(super) fn client_cause(&self, message: &str) -> Cause {
        let limit = match self.request_handle().client_fault() {
            Some(ClientFault::Slow) => self.sandbox.limits().min_rate.map(Limit::MinRate),
            Some(ClientFault::Silent) => self.deadlines.idle_limit().map(Limit::IdleTime),
            Some(ClientFault::Unprotected(time)) => Some(Limit::TlsHandshake(time)),
            Some(ClientFault::Tls) => return Cause::Tls(excerpt(message)),
            Some(ClientFault::Went) | None => None,
        };
        limit.map_or_else(|| Cause::Client(excerpt(message)), Cause::Limit)
    }

    /// Whether the guest has called WASI.
    pub(super) fn has_used_wasi(&self) -> bool {
        self.wasi.is_some() || self.preview1.is_some()
    }

    /// The TLS of the guest, and what its streams are kept in.
    pub(super) fn tls_and_table(&mut self) -> (&mut WasiTlsCtx, &mut ResourceTable) {
        let Self { sandbox, watch, tls, table, .. } = self;
        let tls = tls.get_or_insert_with(|| {
            enter_runtime();
            Tls::new(sandbox.tls_config().cloned(), watch)
        });
        (tls.ctx(), table)
    }

    /// What a core module has of WASI.
    pub(super) fn preview1(&mut self) -> &mut Preview1 {
        if self.preview1.is_none() {
            enter_runtime();
            let (mut wasi, log) = self.build_wasi();
            let mut ctx = wasi.build_p1();
            ctx.ctx().table.set_max_capacity(self.sandbox.limits().resources);
            self.preview1 = Some(Box::new(Preview1::new(ctx, log)));
        }
        self.preview1.as_mut().expect("it was made above")
    }

    /// A WASI of what is granted, and where it prints to.
    fn build_wasi(&self) -> (WasiCtxBuilder, GuestLog) {
        let (grants, limits) = (self.sandbox.grants(), self.sandbox.limits());
        let log = GuestLog::new(self.request.as_ref().map(|request| request.id()), limits.log_rate);
        let wasi = match (&self.program, &self.request) {
            (Some(program), Some(request)) if !self.is_verifying => {
                let stdio = Stdio::new(Connection::of(self));
                let mut wasi = grants.wasi(&log, &self.reachable, &ucspi::environment(&self.server, request));
                if grants.args.is_empty() {
                    // Programs rely on a name of their own.
                    wasi.arg(program);
                }
                wasi.stdin(stdio.clone()).stdout(stdio);
                wasi
            }
            // Sockets would need a reactor, which a process that forks does not have.
            (_, None) if self.sandbox.0.forks => grants.wasi(&log, &Reachable::new(&[]), &[]),
            // The contract's handlers and hooks, and what is instantiated without a request.
            _ => grants.wasi(&log, &self.reachable, &[]),
        };
        (wasi, log)
    }
}

/// Without a runtime all of WASI works but waiting.
fn enter_runtime() {
    if let Err(error) = crate::runtime::enter() {
        tracing::error!("{error}");
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        if self.wasi.is_none() {
            enter_runtime();
            let (mut wasi, log) = self.build_wasi();
            self.wasi = Some(Wasi { ctx: wasi.build(), log });
        }
        let Wasi { ctx, .. } = self.wasi.as_mut().expect("it was made above");
        WasiCtxView { ctx, table: &mut self.table }
    }
}
