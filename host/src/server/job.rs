//! One request on its way through a strategy: serve → close. What goes wrong in it ends here, in the log and
//! the hooks.

use std::sync::Arc;

use super::Core;
use super::open::OpenGuard;
use crate::block_on::block_on;
use crate::clients::Refusal;
use crate::error::{Cause, Phase, RequestError};
use crate::request::Request;
use crate::sandbox::{Watch, prepare_thread};
use crate::slot::{Version, VersionHold};

/// A request on its way through a strategy: served by `run` or `serve`, closed whatever happens.
#[derive(Debug)]
pub(crate) struct Job {
    core: Arc<Core>,
    request: Arc<Request>,
    held: VersionHold,
    watch: Arc<Watch>,
    _open: OpenGuard,
}

impl Job {
    pub(super) fn new(core: &Arc<Core>, request: Arc<Request>) -> Self {
        let held = core.version(&request).enter();
        let watch = Arc::new(Watch::new(held.version.handler.sandbox().limits(), request.waits));
        let open = core.open.enter(&request, &watch);
        Self { core: core.clone(), request, held, watch, _open: open }
    }

    /// Makes ready a thread that jobs are to run on, while there is memory for it; what fails is tried again with
    /// each job.
    pub(crate) fn prepare_thread() {
        let _ = prepare_thread();
    }

    /// Serves the request on this thread.
    pub(crate) fn run(self) {
        match prepare_thread() {
            Ok(()) => block_on(self.serve()),
            Err(reason) => self.refuse(reason),
        }
    }

    /// Serves the request where the future is polled: on a thread of its own, or as a task of tokio's.
    pub(crate) async fn serve(self) {
        let Version { handler, info, .. } = &*self.held.version;
        let served = handler.serve(&self.core.info, info, &self.request, &self.watch).await;
        self.report(served).await;
        self.request.shutdown_request().await;
        self.close();
    }

    /// Closes a request that another process has served and shut down.
    pub(crate) fn end_elsewhere(self, served: Result<(), RequestError>) {
        let served = match (served, self.watch.cut_off()) {
            // Its process was killed for it, or none was begun.
            (Err(error), Some(cut)) => Err(RequestError { phase: error.phase, cause: Cause::Limit(cut) }),
            (served, _) => served,
        };
        block_on(self.report(served));
        self.close();
    }

    pub(crate) fn request(&self) -> &Arc<Request> {
        &self.request
    }

    pub(crate) fn version(&self) -> &Version {
        &self.held.version
    }

    /// Whether it was cut off and has only to end.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.watch.cut_off().is_some()
    }

    /// Closes the request unserved, since the system has no thread or process for it.
    pub(crate) fn refuse(self, reason: &str) {
        self.core.clients.refusals().count(&Refusal::NoThread);
        self.end_elsewhere(Err(RequestError::host(Phase::Instantiate, reason.to_owned())));
    }

    async fn report(&self, served: Result<(), RequestError>) {
        self.core.slot.count(&self.held, &served);
        match served {
            Ok(()) => {
                let client = self.request.client_address();
                tracing::debug!(request = self.request.id(), %client, "served");
            }
            Err(error) => self.core.handle_error(&self.request, &self.held.version, &error).await,
        }
    }

    fn close(&self) {
        self.core.close_request(&self.request);
    }
}
