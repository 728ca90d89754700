//! The hooks that a component exports besides its handler; each call gets a fresh instance.

use std::sync::Arc;

use wasmtime::Store;

use super::contract::{server_hooks, types};
use super::handler::{Handler, failed};
use super::request::{RequestResource, contract_address};
use super::state::{Serves, State};
use super::version_info::VersionInfo;
use super::watch::Watch;
use crate::error::{Phase, RequestError};
use crate::request::{Request, Waits};
use crate::server_info::ServerInfo;

impl Handler {
    /// Whether the component exports `server-hooks`.
    pub fn has_hooks(&self) -> bool {
        self.0.linked.has_hooks()
    }

    /// Runs the `verify-request` hook. A hook that fails refuses the request.
    pub(crate) async fn verify_request(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        request: &Arc<Request>,
    ) -> Result<bool, RequestError> {
        self.hook(server, version, Some(request), Waits::Thread, async |hooks, store| {
            store.data_mut().is_verifying = true;
            hooks.call_verify_request(store, RequestResource::borrowed()).await
        })
        .await
        .map(|verdict| verdict.unwrap_or(true))
    }

    /// Runs the `handle-error` hook, where the request that failed is served or, before that, on the accepting thread.
    pub(crate) async fn handle_error(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        request: &Request,
        error: &RequestError,
        waits: Waits,
    ) -> Result<(), RequestError> {
        let failure = server_hooks::Failure {
            id: request.id(),
            client_address: contract_address(request.client_address()),
            phase: match error.phase {
                Phase::Verify => server_hooks::Phase::Verify,
                Phase::Handshake | Phase::Instantiate | Phase::Setup => server_hooks::Phase::Setup,
                Phase::Handle => server_hooks::Phase::Handle,
                Phase::Finish => server_hooks::Phase::Finish,
            },
            message: error.cause.to_string(),
        };
        self.notify(server, version, waits, async |hooks, store, server| {
            hooks.call_handle_error(store, server, &failure).await
        })
        .await
    }

    /// Runs the `handle-timeout` hook.
    pub(crate) async fn handle_timeout(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
    ) -> Result<(), RequestError> {
        self.notify(server, version, Waits::Thread, async |hooks, store, server| {
            hooks.call_handle_timeout(store, server).await
        })
        .await
    }

    /// Runs the `service-actions` hook.
    pub(crate) async fn service_actions(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
    ) -> Result<(), RequestError> {
        self.notify(server, version, Waits::Thread, async |hooks, store, server| {
            hooks.call_service_actions(store, server).await
        })
        .await
    }

    /// Calls a hook that is told what the server is and has no say in what happens.
    async fn notify(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        waits: Waits,
        call: impl AsyncFnOnce(server_hooks::Guest, &mut Store<State>, &types::ServerInfo) -> wasmtime::Result<()>,
    ) -> Result<(), RequestError> {
        self.hook(server, version, None, waits, async |hooks, store| {
            let server = store.data().server_info();
            call(hooks, store, &server).await
        })
        .await
        .map(drop)
    }

    /// Calls a hook in a fresh instance; `None` if the component has none.
    async fn hook<T>(
        &self,
        server: &Arc<ServerInfo>,
        version: &VersionInfo,
        request: Option<&Arc<Request>>,
        waits: Waits,
        call: impl AsyncFnOnce(server_hooks::Guest, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<Option<T>, RequestError> {
        if !self.has_hooks() {
            return Ok(None);
        }
        let watch = Arc::new(Watch::for_hook(self.0.sandbox.limits(), waits));
        let serves = request.map_or(Serves::None, Serves::Request);
        let mut store = self.store(server, version, serves, &watch);
        let called = watch
            .over(async {
                let Some(hooks) = self.0.linked.instantiate_hooks(&mut store).await? else { return Ok(None) };
                watch.enter(Phase::Verify);
                call(hooks, &mut store).await.map(Some)
            })
            .await;
        let cause = match called {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => failed(&mut store, error),
            Err(cause) => cause,
        };
        let id = request.map_or(0, |request| request.id());
        let cause = self.with_core_dump(cause, id, Phase::Verify, store, waits).await;
        Err(RequestError { phase: Phase::Verify, cause })
    }
}
