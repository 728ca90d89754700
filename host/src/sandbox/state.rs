//! What a store holds while it serves one request.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_tls::WasiTlsCtx;

use super::command::Stdio;
use super::drops::Orphans;
use super::guest_log::{GuestLog, Source};
use super::http::Http;
use super::limits::{Deadlines, Meter};
use super::network::Reachable;
use super::preview1::Preview1;
use super::seed::Seed;
use super::streams::Connection;
use super::tls_client::Tls;
use super::version_info::VersionInfo;
use super::watch::{TICK, Watch};
use super::{Sandbox, ucspi};
use crate::error::{Cause, Limit, excerpt};
use crate::request::{ClientFault, Patience, Request};
use crate::server_info::ServerInfo;

/// What an instance is made for.
#[derive(Clone, Copy)]
pub(super) enum Serves<'a> {
    Request(&'a Arc<Request>),
    /// A request of HTTP, by its number.
    Http(u64),
    /// It has no request yet, or never will.
    None,
}

impl<'a> Serves<'a> {
    fn request(self) -> Option<&'a Arc<Request>> {
        match self {
            Self::Request(request) => Some(request),
            Self::Http(_) | Self::None => None,
        }
    }

    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Request(request) => Some(request.id()),
            Self::Http(number) => Some(number),
            Self::None => None,
        }
    }
}

pub(super) struct State {
    pub(super) sandbox: Sandbox,
    pub(super) server: Arc<ServerInfo>,
    pub(super) digest: Arc<str>,
    pub(super) version: VersionInfo,
    /// `None` in a hook that is not about a request, and with HTTP, where a guest sees no connection.
    pub(super) request: Option<Arc<Request>>,
    /// What its lines in the log are numbered by.
    number: Option<u64>,
    /// The name of the ordinary program that the guest is; the request is its standard input and output.
    pub(super) program: Option<Arc<str>>,
    /// A hook looks at the request before it is served: its connection must not be read or written yet.
    pub(super) is_verifying: bool,
    pub(super) deadlines: Deadlines,
    pub(super) watch: Arc<Watch>,
    pub(super) meter: Meter,
    pub(super) table: ResourceTable,
    pub(super) orphans: Orphans,
    pub(super) seed: Seed,
    pub(super) reachable: Reachable,
    /// What the guest trapped by, where core dumps are made.
    pub(super) trap: Option<wasmtime::Error>,
    /// Made when the guest first uses WASI; most handlers never do.
    wasi: Option<Wasi>,
    /// The same for a core module.
    preview1: Option<Box<Preview1>>,
    /// Made when the guest first uses TLS.
    tls: Option<Tls>,
    /// Made when the guest first uses HTTP.
    http: Option<Http>,
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
        serves: Serves<'_>,
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
            request: serves.request().cloned(),
            number: serves.number(),
            program: None,
            is_verifying: false,
            deadlines: Deadlines::new(limits, watch),
            watch: watch.clone(),
            meter: Meter::new(limits, watch),
            table,
            orphans: Orphans::default(),
            seed: Seed::default(),
            reachable: Reachable::new(&sandbox.grants().net),
            trap: None,
            wasi: None,
            preview1: None,
            tls: None,
            http: None,
        }
    }
}

impl State {
    /// Gives an instance that was there before its request the request to serve.
    pub(super) fn renew(
        &mut self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        serves: Serves<'_>,
        watch: &Arc<Watch>,
    ) {
        self.number = serves.number();
        self.watch = watch.clone();
        let log = self.wasi.as_ref().map(|wasi| &wasi.log);
        if let Some(log) = log.or_else(|| self.preview1.as_ref().map(|preview1| &preview1.log)) {
            enter_runtime();
            log.set_source(self.log_source());
        }
        if let Some(tls) = &self.tls {
            enter_runtime();
            tls.renew(watch);
        }
        if let Some(http) = &mut self.http {
            http.renew(watch);
        }
        self.server = server.clone();
        self.version = version.clone();
        self.request = serves.request().cloned();
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
            // The kernel may end a wait a little before the time is up.
            Some(ClientFault::Silent) if self.deadlines.request_ends_within(TICK) => {
                self.sandbox.limits().request_time.map(Limit::Time)
            }
            Some(ClientFault::Silent) => self.deadlines.idle_limit().map(Limit::IdleTime),
            Some(ClientFault::Unprotected(time)) => Some(Limit::TlsHandshake(time)),
            Some(ClientFault::Tls) => return Cause::Tls(excerpt(message)),
            Some(ClientFault::Went) | None => None,
        };
        limit.map_or_else(|| Cause::Client(excerpt(message)), Cause::Limit)
    }

    /// Whether the guest has called WASI.
    pub(super) fn has_used_wasi(&self) -> bool {
        self.wasi.is_some() || self.preview1.is_some() || self.seed.is_drawn()
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

    /// The HTTP of the guest, and what its requests and answers are kept in.
    pub(super) fn http_and_table(&mut self) -> (&mut Http, &mut ResourceTable) {
        let Self { sandbox, watch, reachable, http, table, .. } = self;
        let http = http.get_or_insert_with(|| {
            enter_runtime();
            Http::new(reachable, sandbox.tls_config(), watch)
        });
        (http, table)
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

    /// Who prints.
    fn log_source(&self) -> Source {
        let context = self.watch.trace().map(|trace| trace.context());
        Source { request: self.number, span: context.filter(|context| context.is_sampled).cloned() }
    }

    /// A WASI of what is granted, and where it prints to.
    fn build_wasi(&self) -> (WasiCtxBuilder, GuestLog) {
        let (grants, limits) = (self.sandbox.grants(), self.sandbox.limits());
        let log = GuestLog::new(self.log_source(), limits.log_rate, &self.sandbox.host().dropped_lines);
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
            (_, None) if self.sandbox.host().forks => grants.wasi(&log, &Reachable::new(&[]), &[]),
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
