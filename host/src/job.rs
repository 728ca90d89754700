//! One request on its way, whole: what it is, which version serves it, who watches over it, and what it counts for. What
//! goes wrong in it ends here, in the log and the hooks.

mod closing;
mod counts;
mod hooks;
mod http;
mod open;
mod spans;
mod table;

use std::future::Future;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

pub(crate) use closing::Closing;
pub(crate) use counts::{FAILURES, Failure, ServerCounts};
pub(crate) use hooks::isolated;
pub use hooks::{NoHooks, ServerHooks};
pub(crate) use open::OpenRequests;

use tracing::Level;

use crate::admission::{Bound, Permit, Room};
use crate::block_on::{block_on, boxed};
use crate::clients::{Clients, Refusal, SourceCount};
use crate::error::{Cause, Phase, RequestError, shown};
use crate::events::{EventKind, emit};
use crate::request::{Request, Waits};
use crate::runtime;
use crate::sandbox::{Subject, Watch, prepare_thread};
use crate::server_info::ServerInfo;
use crate::slot::{Slot, Version, VersionHold};
use crate::taken::{REFUSED_MAX, Taken};
use crate::traces::{Came, Recorded, TraceContext, Traces};
use open::Open;
use table::Entered;

/// What requests need of their server, also after it is closed.
pub(crate) struct Service {
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) slot: Slot,
    pub(crate) hooks: Arc<dyn ServerHooks>,
    pub(crate) clients: Clients,
    pub(crate) open: Arc<OpenRequests>,
    /// Those that came by connections of HTTP, which are among the open ones themselves.
    pub(crate) exchanges: Arc<OpenRequests>,
    /// Connections that may be kept for further requests of HTTP.
    pub(crate) places: usize,
    /// Whether connections are to bring no further requests of HTTP.
    pub(crate) closing: Closing,
    pub(crate) counts: ServerCounts,
    /// Where spans of its requests go, if they go anywhere.
    pub(crate) traces: Option<Traces>,
    /// Where its requests wait.
    pub(crate) waits: Waits,
}

/// A request that a server has taken on: it is served by `process_request`, and closed when it is dropped, served or not.
#[derive(Debug)]
pub struct Job {
    service: Arc<Service>,
    // From here on in the order in which they are let go of, none of it under a lock. First the connection is closed.
    request: Arc<Request>,
    watch: Arc<Watch>,
    /// Perhaps the last that a replaced version was there for. With HTTP, where it is served in this process, a connection
    /// has none: each of its requests does.
    hold: Option<VersionHold>,
    /// When it got its room, if that is measured.
    admitted: Option<Instant>,
    /// Let go of before the client sees the end, if it has sent nothing more: it may come again at once.
    source: Option<SourceCount>,
    /// What another process has left of it.
    core_dump: Option<PathBuf>,
    /// Last but for the table: room is free, and a server drained, when all the rest is done.
    _permit: Permit,
    open: Entered<Open>,
}

/// The request itself.
impl Deref for Job {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl Job {
    pub(crate) fn new(
        service: &Arc<Service>,
        mut request: Request,
        source: Option<SourceCount>,
        came: Option<Instant>,
        permit: Permit,
    ) -> Self {
        let version = service.slot.take();
        let limits = version.handler.sandbox().limits();
        request.set_min_rate(limits.min_rate);
        let request = Arc::new(request);
        let speaks_http = version.handler.speaks_http();
        let (hold, watch) = match speaks_http {
            true if service.is_served_here() => (None, Watch::for_connection(limits)),
            true => (Some(version.enter()), Watch::for_connection(limits)),
            false => (Some(version.enter()), Watch::new(limits, service.waits)),
        };
        let is_measured = service.info.is_measured;
        // Each request of HTTP has a trace of its own.
        let came = came.filter(|_| !speaks_http).map(|since| Came { since, parent: None });
        let trace = service.info.begin_trace(came);
        let watch = Arc::new(watch.measuring(is_measured).tracing(trace));
        let admitted = is_measured.then(Instant::now);
        let generation = hold.as_ref().map(|hold| hold.version.info.generation);
        let open = service.open.enter(request.id(), Arc::downgrade(&request), &watch, generation);
        if speaks_http {
            service.note_crowd();
        }
        let service = service.clone();
        Self { service, request, watch, hold, admitted, source, core_dump: None, _permit: permit, open }
    }

    /// Makes ready a thread that jobs are to run on, while there is memory for it; what fails is tried again with
    /// each job.
    pub(crate) fn prepare_thread() {
        let _ = prepare_thread();
    }

    /// Whether every hook lets it pass: the program's, then the component's. On the accepting thread.
    pub(crate) fn is_verified(&self) -> bool {
        let by_program = isolated("verify_request", || self.service.hooks.verify_request(&self.request));
        by_program == Some(true) && self.component_verifies()
    }

    fn component_verifies(&self) -> bool {
        let version = self.version();
        let Version { handler, info, .. } = &*version;
        let verified = block_on(handler.verify_request(&self.service.info, info, &self.request));
        self.request.rewind();
        verified.unwrap_or_else(|error| {
            block_on(self.handle_error(&error, Waits::Thread));
            false
        })
    }

    /// Closes it unserved, since a hook did not let it pass.
    pub(crate) fn refuse_unverified(self) {
        self.service.clients.refusals().count(&Refusal::Verify);
        tracing::debug!(request = self.request.id(), client = %self.request.client_address(), "refused");
    }

    /// Serves it on this thread, which outlives whatever goes wrong.
    pub(crate) fn run(self) {
        isolated("serving a request", || match prepare_thread() {
            Ok(()) if self.speaks_http() => self.drive(),
            Ok(()) => block_on(self.serve()),
            Err(reason) => self.refuse(reason),
        });
    }

    /// Serves it where the future is polled: on a thread of its own, or as a task of tokio's.
    pub(crate) async fn serve(mut self) {
        let Self { service, request, watch, .. } = &self;
        if let Some(admitted) = self.admitted {
            service.counts.start_wait.record(admitted.elapsed());
            watch.note_begin();
        }
        match &self.hold {
            Some(hold) => {
                let Version { handler, info, .. } = &*hold.version;
                let served = handler.serve(&service.info, info, request, watch).await;
                self.report(&served, &watch.taken(), watch.waits()).await;
            }
            None => {
                let exchanges = Arc::new(http::Exchanged::of(service, request));
                let handler = &service.slot.stable().handler;
                let served = boxed(|| handler.serve_http(&service.info, request, watch, exchanges)).await;
                http::say_end(request, &served);
            }
        }
        service.counts.count_handshake(&watch.taken());
        if self.shutdown() {
            self.request.linger(self.watch.waits()).await;
        }
    }

    /// Whether it is a connection that brings requests of HTTP.
    pub(crate) fn speaks_http(&self) -> bool {
        self.hold.as_ref().is_none_or(|hold| hold.version.handler.speaks_http())
    }

    /// Room for one of them beside others, if there is some.
    pub(crate) fn more_room(&self) -> Option<Room> {
        self.service.more_room()
    }

    /// How many of them it may have open.
    pub(crate) fn streams_max(&self) -> usize {
        self.service.info.http.streams as usize
    }

    /// How many of them it may bring.
    pub(crate) fn exchanges_max(&self) -> u64 {
        self.service.info.http.requests
    }

    /// Says how one of them went that another process has served.
    pub(crate) fn exchanged(&self, served: Result<(), RequestError>, latency: Duration, mut taken: Taken) {
        let Self { service, request, hold, core_dump, .. } = self;
        let Some(hold) = hold else { return };
        let served = with_core_dump(served, core_dump.clone());
        taken.trace = taken.trace.map(|noted| Box::new(noted.bounded()));
        block_on(service.report(request, request.id(), hold, &served, latency, &taken, Waits::Thread));
        service.take_in(request, &taken);
    }

    /// Takes in what another process has taken for it, besides what it has said of its requests.
    pub(crate) fn take_in(&self, taken: &Taken) {
        let Self { service, request, .. } = self;
        service.take_in(request, taken);
        service.counts.count_handshake(taken);
        self.version().handler.sandbox().add_dropped_lines(taken.dropped_lines);
    }

    /// Gives a connection that another process has served the version that serves now; whether it can go on with that.
    pub(crate) fn renew(&mut self) -> bool {
        let version = self.service.slot.take();
        if !version.handler.speaks_http() {
            return false;
        }
        let generation = Some(version.info.generation);
        self.open.change(|open| open.serve_by(generation));
        self.hold = Some(version.enter());
        self.admitted = None;
        true
    }

    /// Serves it on this thread as a task is served elsewhere.
    fn drive(self) {
        let service = self.service.clone();
        if let Err(error) = runtime::drive(self.serve()) {
            service.clients.refusals().count(&Refusal::NoThread);
            tracing::warn!("a connection is closed: nothing to wait for it with: {error}");
        }
    }

    /// Keeps the core dump that another process has made of it.
    pub(crate) fn core_dumped(&mut self, phase: Phase, dump: OwnedFd) {
        let version = self.version();
        let handler = &version.handler;
        let subject =
            Subject { handler: handler.name(), digest: handler.digest(), request: self.request.id(), phase };
        self.core_dump = handler.sandbox().core_dumps().keep_sealed(&subject, dump);
    }

    /// Ends for the client what another process has served.
    pub(crate) fn served_elsewhere(&mut self, served: Result<(), RequestError>, mut taken: Taken) {
        self.take_in(&taken);
        if let Some(admitted) = self.admitted.filter(|_| taken.instance.is_some()) {
            // All but what it was served for.
            let served = taken.phases.iter().fold(Duration::ZERO, |sum, time| sum.saturating_add(*time));
            self.service.counts.start_wait.record(admitted.elapsed().saturating_sub(served));
        }
        let served = with_core_dump(served, self.core_dump.take());
        let served = match (served, self.watch.cut_off()) {
            // Its process was killed for it, or none was begun.
            (Err(error), Some(cut)) => Err(RequestError { phase: error.phase, cause: Cause::Limit(cut) }),
            (served, _) => served,
        };
        let noted = taken.trace.take().map(|noted| *noted);
        taken.trace = self.watch.taken().trace.map(|own| Box::new(own.served_by(noted)));
        block_on(self.report(&served, &taken, Waits::Thread));
        // Whoever served it waits for a client that is still sending.
        self.shutdown();
    }

    /// Half-closes it; whether the client may still be sending.
    fn shutdown(&mut self) -> bool {
        let is_sending = self.request.discard_unread();
        if !is_sending {
            self.source = None;
        }
        self.request.half_close();
        is_sending
    }

    pub(crate) fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// The one that serves it; of a connection of HTTP, the one that would serve a request now.
    pub(crate) fn version(&self) -> Arc<Version> {
        match &self.hold {
            Some(hold) => hold.version.clone(),
            None => self.service.slot.stable(),
        }
    }

    /// Its place in a trace, if it has one.
    pub(crate) fn trace_context(&self) -> Option<&TraceContext> {
        self.watch.trace().map(|trace| trace.context())
    }

    /// Has `waker` woken when it is cut off, as whoever serves it elsewhere needs to know; perhaps now.
    pub(crate) fn wake_on_cut(&self, waker: Waker) {
        self.watch.wake_on_cut(waker);
    }

    /// Whether it was cut off and has only to end.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.watch.cut_off().is_some()
    }

    /// Closes it unserved, since the system has no thread or process for it.
    pub(crate) fn refuse(mut self, reason: &str) {
        self.end_refused(reason);
    }

    /// Ends it unserved, likewise; it is closed later.
    pub(crate) fn end_refused(&mut self, reason: &str) {
        self.service.clients.refusals().count(&Refusal::NoThread);
        let refused = Err(RequestError::host(Phase::Instantiate, reason.to_owned()));
        self.served_elsewhere(refused, Taken::default());
    }

    async fn report(&self, served: &Result<(), RequestError>, taken: &Taken, waits: Waits) {
        let Self { service, request, hold, .. } = self;
        match hold {
            // Of its requests the log has spoken.
            Some(hold) if hold.version.handler.speaks_http() && http::is_a_plain_end(served) => {
                http::say_end(request, served);
            }
            Some(hold) => {
                let latency = hold.latency();
                service.report(request, request.id(), hold, served, latency, taken, waits).await;
            }
            None => {
                if let Err(error) = served {
                    self.handle_error(error, waits).await;
                }
            }
        }
    }

    async fn handle_error(&self, error: &RequestError, waits: Waits) {
        self.service.handle_error(&self.request, self.request.id(), &self.version(), error, waits).await;
    }
}

/// `socketserver`'s `close_request`.
impl Drop for Job {
    fn drop(&mut self) {
        isolated("close_request", || self.service.hooks.close_request(&self.request));
        // Together with others' this is where processors meet.
        if self.service.info.is_measured {
            self.service.counts.volume.add(self.request.take_volume());
        }
    }
}

impl Service {
    /// Whether requests are served in this process.
    fn is_served_here(&self) -> bool {
        self.open.are_served_here()
    }

    /// Whether others wait for the places of connections, or may when one more comes.
    fn is_crowded(&self) -> bool {
        self.open.count() > self.places
    }

    /// Has connections make room, if they are to. Where there is one place, none is kept from the beginning.
    fn note_crowd(&self) {
        if self.places > 0 {
            self.closing.set_crowded(self.is_crowded());
        }
    }

    /// Room for a request of HTTP beside others of its connection, if there is some.
    fn more_room(&self) -> Option<Room> {
        Bound::take(self.slot.stable().handler.sandbox().requests())
    }

    /// Takes in what is not a version's.
    fn take_in(&self, request: &Request, taken: &Taken) {
        self.counts.take_in(taken);
        for trace in taken.refused.iter().take(REFUSED_MAX) {
            self.tell_refusal(request, trace);
        }
    }

    /// Tells of a request of HTTP that no guest has answered.
    fn tell_refusal(&self, request: &Request, trace: &Recorded) {
        self.traces.iter().for_each(|traces| traces.send(spans::of_refusal(self, request, trace)));
    }

    /// Counts how a request went, and says so. Several may have come by one connection, and then have numbers of their own.
    #[allow(clippy::too_many_arguments, reason = "all that is known of a request at its end")]
    async fn report(
        &self,
        request: &Request,
        id: u64,
        hold: &VersionHold,
        served: &Result<(), RequestError>,
        latency: Duration,
        taken: &Taken,
        waits: Waits,
    ) {
        self.slot.count(hold, served, latency, taken);
        if let (Some(traces), Some(trace)) = (&self.traces, &taken.trace) {
            let ended = spans::Ended { service: self, request, id, version: &hold.version, served, taken };
            ended.spans(trace).for_each(|span| traces.send(span));
        }
        if let Err(error) = served {
            self.tell(&hold.version, error);
        }
        match served {
            Ok(()) => {
                let (client, tls) = (request.client_address(), request.tls());
                let tls = tls.map(tracing::field::display);
                tracing::debug!(request = id, %client, tls, "served");
            }
            Err(error) => self.handle_error(request, id, &hold.version, error, waits).await,
        }
    }

    /// Tells those who follow events of a failure that counts, or of a limit.
    fn tell(&self, version: &Version, error: &RequestError) {
        let about = || {
            let (handler, generation) = (&version.handler, version.info.generation);
            let (address, slot) = (self.info.address().to_string(), self.slot.name().to_owned());
            (address, slot, generation, handler.digest().to_owned())
        };
        match &error.cause {
            Cause::Limit(limit) if limit.is_a_cut() => {}
            Cause::Limit(limit) => emit(|| {
                let (address, slot, generation, digest) = about();
                let limit = limit.name().to_owned();
                EventKind::Limit { address, slot, generation, digest, limit, count: 1 }
            }),
            cause if cause.is_the_clients() => {}
            cause => emit(|| {
                let (address, slot, generation, digest) = about();
                let (phase, reason) = (error.phase.to_string(), cause.to_string());
                EventKind::Failed { address, slot, generation, digest, phase, reason, count: 1 }
            }),
        }
    }

    /// `socketserver`'s `handle_error`: logs what went wrong, and tells the hooks.
    async fn handle_error(
        &self,
        request: &Request,
        id: u64,
        version: &Version,
        error: &RequestError,
        waits: Waits,
    ) {
        let Version { handler, info, .. } = version;
        let (client, generation) = (request.client_address(), info.generation);
        let RequestError { phase, cause } = error;
        let tls = request.tls().map(tracing::field::display);
        if self.info.is_measured && !cause.is_the_clients() {
            self.counts.remember(id, generation, error);
        }
        match cause {
            cause if cause.is_the_clients() => {
                tracing::info!(request = id, %client, tls, %phase, generation, "{cause}")
            }
            Cause::Trap { core_dump, .. } => {
                let core_dump = core_dump.as_deref().map(shown).map(tracing::field::display);
                tracing::warn!(request = id, %client, tls, %phase, generation, core_dump, "{cause}");
                if tracing::enabled!(Level::DEBUG) {
                    handler
                        .tell_backtrace(error, move |backtrace| tracing::debug!(request = id, "{backtrace}"));
                }
            }
            _ => tracing::warn!(request = id, %client, tls, %phase, generation, "{cause}"),
        }
        isolated("handle_error", || self.hooks.handle_error(request, error));
        if let Err(error) = handler.handle_error(&self.info, info, request, error, waits).await {
            tracing::warn!(request = id, "hook handle-error failed: {}", error.cause);
        }
    }

    /// Runs a hook of the component that has no say in what happens.
    pub(crate) fn run_hook(&self, hook: impl Future<Output = Result<(), RequestError>>) {
        if let Err(error) = block_on(hook) {
            tracing::warn!("hook failed: {}", error.cause);
        }
    }
}

/// With the file that its core dump is kept in.
fn with_core_dump(mut served: Result<(), RequestError>, kept: Option<PathBuf>) -> Result<(), RequestError> {
    if let Err(RequestError { cause: Cause::Trap { core_dump, .. }, .. }) = &mut served {
        *core_dump = kept;
    }
    served
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("info", &self.info).finish_non_exhaustive()
    }
}
