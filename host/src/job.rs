//! One request on its way, whole: what it is, which version serves it, who watches over it, and what it counts for. What
//! goes wrong in it ends here, in the log and the hooks.

mod hooks;
mod open;
mod table;

use std::future::Future;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;

pub(crate) use hooks::isolated;
pub use hooks::{NoHooks, ServerHooks};
pub(crate) use open::OpenRequests;

use tracing::Level;

use crate::admission::Permit;
use crate::block_on::block_on;
use crate::clients::{Clients, Refusal, SourceCount};
use crate::error::{Cause, Phase, RequestError, shown};
use crate::request::{Request, Waits};
use crate::sandbox::{Subject, Watch, prepare_thread};
use crate::server_info::ServerInfo;
use crate::slot::{Slot, Version, VersionHold};
use open::Open;
use table::Entered;

/// What requests need of their server, also after it is closed.
pub(crate) struct Service {
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) slot: Slot,
    pub(crate) hooks: Arc<dyn ServerHooks>,
    pub(crate) clients: Clients,
    pub(crate) open: Arc<OpenRequests>,
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
    /// Perhaps the last that a replaced version was there for.
    hold: VersionHold,
    /// Let go of before the client sees the end, if it has sent nothing more: it may come again at once.
    source: Option<SourceCount>,
    /// What another process has left of it.
    core_dump: Option<PathBuf>,
    /// Last but for the table: room is free, and a server drained, when all the rest is done.
    _permit: Permit,
    _open: Entered<Open>,
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
        request: Request,
        source: Option<SourceCount>,
        permit: Permit,
    ) -> Self {
        let request = Arc::new(request);
        let hold = service.slot.take().enter();
        let watch = Arc::new(Watch::new(hold.version.handler.sandbox().limits(), service.waits));
        let open = service.open.enter(&request, &watch, &hold.version);
        let service = service.clone();
        Self { service, request, watch, hold, source, core_dump: None, _permit: permit, _open: open }
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
        let Version { handler, info, .. } = self.version();
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
            Ok(()) => block_on(self.serve()),
            Err(reason) => self.refuse(reason),
        });
    }

    /// Serves it where the future is polled: on a thread of its own, or as a task of tokio's.
    pub(crate) async fn serve(mut self) {
        let Version { handler, info, .. } = &*self.hold.version;
        let served = handler.serve(&self.service.info, info, &self.request, &self.watch).await;
        self.report(&served, self.service.waits).await;
        if self.shutdown() {
            self.request.linger(self.service.waits).await;
        }
    }

    /// Keeps the core dump that another process has made of it.
    pub(crate) fn core_dumped(&mut self, phase: Phase, dump: OwnedFd) {
        let handler = &self.version().handler;
        let subject =
            Subject { handler: handler.name(), digest: handler.digest(), request: self.request.id(), phase };
        self.core_dump = handler.sandbox().core_dumps().keep_sealed(&subject, dump);
    }

    /// Ends for the client what another process has served.
    pub(crate) fn served_elsewhere(&mut self, mut served: Result<(), RequestError>) {
        if let Err(RequestError { cause: Cause::Trap { core_dump, .. }, .. }) = &mut served {
            *core_dump = self.core_dump.take();
        }
        let served = match (served, self.watch.cut_off()) {
            // Its process was killed for it, or none was begun.
            (Err(error), Some(cut)) => Err(RequestError { phase: error.phase, cause: Cause::Limit(cut) }),
            (served, _) => served,
        };
        block_on(self.report(&served, Waits::Thread));
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

    pub(crate) fn version(&self) -> &Version {
        &self.hold.version
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
        self.served_elsewhere(Err(RequestError::host(Phase::Instantiate, reason.to_owned())));
    }

    async fn report(&self, served: &Result<(), RequestError>, waits: Waits) {
        self.service.slot.count(&self.hold, served);
        match served {
            Ok(()) => {
                let (client, tls) = (self.request.client_address(), self.request.tls());
                let tls = tls.map(tracing::field::display);
                tracing::debug!(request = self.request.id(), %client, tls, "served");
            }
            Err(error) => self.handle_error(error, waits).await,
        }
    }

    /// `socketserver`'s `handle_error`: logs what went wrong, and tells the hooks.
    async fn handle_error(&self, error: &RequestError, waits: Waits) {
        let Version { handler, info, .. } = self.version();
        let (id, client, generation) = (self.request.id(), self.request.client_address(), info.generation);
        let RequestError { phase, cause } = error;
        let tls = self.request.tls().map(tracing::field::display);
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
        let Service { info: server, hooks, .. } = &*self.service;
        isolated("handle_error", || hooks.handle_error(&self.request, error));
        if let Err(error) = handler.handle_error(server, info, &self.request, error, waits).await {
            tracing::warn!(request = id, "hook handle-error failed: {}", error.cause);
        }
    }
}

/// `socketserver`'s `close_request`.
impl Drop for Job {
    fn drop(&mut self) {
        isolated("close_request", || self.service.hooks.close_request(&self.request));
    }
}

impl Service {
    /// Runs a hook of the component that has no say in what happens.
    pub(crate) fn run_hook(&self, hook: impl Future<Output = Result<(), RequestError>>) {
        if let Err(error) = block_on(hook) {
            tracing::warn!("hook failed: {}", error.cause);
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("info", &self.info).finish_non_exhaustive()
    }
}
