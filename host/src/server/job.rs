//! One request on its way through a strategy: serve → close. What goes wrong in it ends here, in the log and
//! the hooks.

use std::sync::Arc;

use super::Core;
use super::open::OpenGuard;
use crate::block_on::block_on;
use crate::error::{Cause, Phase, RequestError};
use crate::request::Request;
use crate::sandbox::Watch;

/// A request on its way through a strategy: served by `run` or `run_as_task`, closed whatever happens.
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
        let version = self.core.slot.current();
        let served =
            version.handler.serve_here(&self.core.info, version.generation, &self.request, &self.watch);
        block_on(self.request.shutdown_request(), None);
        block_on(self.end(served), None);
    }

    /// Serves the request among other tasks of a tokio runtime.
    pub(crate) async fn run_as_task(self) {
        let version = self.core.slot.current();
        let serving = version.handler.serve(&self.core.info, version.generation, &self.request, &self.watch);
        let served = match self.watch.deadline() {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), serving)
                .await
                .unwrap_or_else(|_| Err(self.watch.timed_out())),
            None => serving.await,
        };
        self.request.shutdown_request().await;
        self.end(served).await;
    }

    /// Closes a request that another process has served and shut down.
    pub(crate) fn end_elsewhere(self, served: Result<(), RequestError>) {
        block_on(self.end(served), None);
    }

    pub(crate) fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Closes the request unserved.
    pub(crate) fn refuse(self, reason: &str) {
        block_on(self.end(Err(RequestError::host(Phase::Instantiate, reason.to_owned()))), None);
    }

    /// Says how it went, and closes the request.
    async fn end(&self, served: Result<(), RequestError>) {
        let (id, client) = (self.request.id(), self.request.client_address());
        match &served {
            Ok(()) => tracing::debug!(request = id, %client, "served"),
            Err(error) => {
                let (phase, cause) = (error.phase, &error.cause);
                match cause {
                    Cause::Client(_) => tracing::info!(request = id, %client, %phase, "{cause}"),
                    _ => tracing::warn!(request = id, %client, %phase, "{cause}"),
                }
                if let Cause::Trap { backtrace, .. } = cause {
                    tracing::debug!(request = id, "{}", backtrace.trim_end());
                }
            }
        }
        if let Err(error) = &served {
            self.core.hooks.handle_error(&self.request, error);
            let version = self.core.slot.current();
            let hook =
                version.handler.handle_error(&self.core.info, version.generation, &self.request, error);
            if let Err(error) = hook.await {
                tracing::warn!(request = id, "hook handle-error failed: {}", error.cause);
            }
        }
        self.core.hooks.close_request(&self.request);
    }
}
