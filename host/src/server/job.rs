//! One request on its way through a strategy: serve → close. What goes wrong in it ends here, in the log and
//! the hooks.

use std::sync::Arc;

use super::Core;
use super::open::OpenGuard;
use crate::block_on::block_on;
use crate::error::{Cause, Limit, Phase, RequestError};
use crate::request::Request;
use crate::sandbox::Watch;

/// A request on its way through a strategy: served by `run` or `serve`, closed whatever happens.
#[derive(Debug)]
pub(crate) struct Job {
    core: Arc<Core>,
    request: Arc<Request>,
    watch: Arc<Watch>,
    _open: OpenGuard,
}

impl Job {
    pub(super) fn new(core: &Arc<Core>, request: Arc<Request>) -> Self {
        let watch = Arc::new(Watch::new(core.slot.current().handler.sandbox().limits(), request.waits));
        let open = core.open.enter(&request, &watch);
        Self { core: core.clone(), request, watch, _open: open }
    }

    /// Serves the request on this thread.
    pub(crate) fn run(self) {
        block_on(self.serve());
    }

    /// Serves the request where the future is polled: on a thread of its own, or as a task of tokio's.
    pub(crate) async fn serve(self) {
        let version = self.core.slot.current();
        let serving = version.handler.serve(&self.core.info, version.generation, &self.request, &self.watch);
        let served = serving.await;
        self.report(served).await;
        self.request.shutdown_request().await;
        self.close();
    }

    /// Closes a request that another process has served and shut down.
    pub(crate) fn end_elsewhere(self, served: Result<(), RequestError>) {
        let served = match served {
            // Its process was killed for it.
            Err(error) if self.watch.is_cut() => {
                Err(RequestError { phase: error.phase, cause: Cause::Limit(Limit::Closing) })
            }
            served => served,
        };
        self.end(served);
    }

    pub(crate) fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Closes the request unserved.
    pub(crate) fn refuse(self, reason: &str) {
        self.end(Err(RequestError::host(Phase::Instantiate, reason.to_owned())));
    }

    fn end(&self, served: Result<(), RequestError>) {
        block_on(self.report(served));
        self.close();
    }

    async fn report(&self, served: Result<(), RequestError>) {
        match served {
            Ok(()) => {
                let client = self.request.client_address();
                tracing::debug!(request = self.request.id(), %client, "served");
            }
            Err(error) => self.core.handle_error(&self.request, &error).await,
        }
    }

    fn close(&self) {
        self.core.close_request(&self.request);
    }
}
