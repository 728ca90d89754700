//! Handlers in registries: artifacts of OCI, as `wkg`, Spin and wasmCloud keep theirs.
//!
//! ```text
//!  reference ── manifest ── the one layer that is WebAssembly ── checked by its digest ── Sandbox::load_fetched
//!               signatures that refer to it, where one is required ────────────────────┘
//! ```
//!
//! What a registry sends is bounded before it is kept, whole answers have a deadline, and nothing is believed but what its
//! digest says: of `oci-client`, which has neither bound, only the types are used.

mod credential_helper;
mod credentials;
mod failure;
mod manifest;
mod options;
mod pull;
mod push;
mod reference;
mod session;
mod signature;
mod tls;
mod token;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use plugsock::{HandlerError, one_line};
use reqwest::header::HeaderValue;
use rustls::ClientConfig;
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout_at};

use super::kept::Kept;
use failure::Failure;
use options::PlainHttp;
pub use options::{RegistryArgs, RegistryOptions};
pub use push::Pushing;
pub use reference::{OciReference, SCHEME};
use session::Session;
pub use session::jittered;
use token::Access;

/// As many authorizations as are remembered.
const REMEMBERED: usize = 64;

/// Deals with registries, all in the same way. Cloning is cheap and shares what is known of them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    /// Where what was fetched is kept, if it is.
    kept: Option<Kept>,
}

pub struct Inner {
    options: RegistryOptions,
    /// Made for the first that is asked by TLS.
    tls: OnceLock<ClientConfig>,
    /// What registries wanted to see the last time: by registry, repository and what for.
    authorizations: Mutex<Vec<(Wanted, HeaderValue)>>,
}

#[derive(PartialEq)]
struct Wanted {
    registry: String,
    repository: String,
    access: Access,
}

impl std::ops::Deref for Registry {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

/// Why nothing came of something that was to be done with an artifact.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {}", one_line(&.failure.reason))]
pub struct RegistryError {
    doing: &'static str,
    failure: Failure,
}

impl RegistryError {
    /// Whether the registry may well do it another time.
    fn is_passing(&self) -> bool {
        self.failure.retry.is_some()
    }

    /// As what a handler is not loaded for.
    pub fn of_handler(self, reference: &OciReference) -> HandlerError {
        HandlerError::Fetch { name: reference.to_string(), reason: self.to_string() }
    }
}

impl Registry {
    pub fn new(options: RegistryOptions) -> Self {
        let (tls, authorizations) = (OnceLock::new(), Mutex::default());
        Self { inner: Arc::new(Inner { options, tls, authorizations }), kept: None }
    }

    /// The same, which keeps what is fetched.
    pub fn keeping(self, kept: Option<Kept>) -> Self {
        Self { kept, ..self }
    }

    /// Does something with a repository, within the time for that.
    fn run<T>(
        &self,
        reference: &OciReference,
        access: Access,
        work: impl AsyncFnOnce(&Session<'_>) -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        let early =
            |error: String| RegistryError { doing: "ask the registry", failure: Failure::lasting(error) };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| early(format!("the system has no descriptor for it: {error}")))?;
        let deadline = Instant::now() + self.options.timeout;
        let done = runtime.block_on(async {
            let session =
                Session::new(self, reference, access, deadline).map_err(|failure| early(failure.reason))?;
            let done = timeout_at(deadline, work(&session)).await.unwrap_or_else(|_| {
                let time = self.options.timeout;
                Err(Failure::passing(format!(
                    "it is not done within {time:?}: --registry-timeout may allow more"
                )))
            });
            done.map_err(|failure| RegistryError { doing: session.doing(), failure })
        });
        // Without waiting for a name that is still looked up.
        runtime.shutdown_background();
        done
    }
}

impl Inner {
    fn tls(&self) -> &ClientConfig {
        self.tls.get_or_init(|| tls::client_config(&self.options.ca))
    }

    fn known_authorization(&self, session: &Session<'_>) -> Option<HeaderValue> {
        let wanted = Wanted::by(session);
        let known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(known, _)| *known == wanted).map(|(_, value)| value.clone())
    }

    fn remember_authorization(&self, session: &Session<'_>, value: HeaderValue) {
        let wanted = Wanted::by(session);
        let mut known = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| *known != wanted);
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push((wanted, value));
    }
}

impl Wanted {
    fn by(session: &Session<'_>) -> Self {
        Self {
            registry: session.reference.registry().to_owned(),
            repository: session.reference.repository().to_owned(),
            access: session.access,
        }
    }
}
