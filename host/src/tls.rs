//! TLS for stream servers: the operator's certificates and keys, and what a connection is told of them.
//!
//! ```text
//!  files ──load──▶ Identities, in one piece ──▶ ServerConfig, for each connection by the name it asks for
//!    ▲                  │
//!    └── changed, SIGHUP, upgrade              a child of a fork server has none of it: it asks its host (remote.rs)
//! ```
//!
//! rustls does the protocol, with `ring` for all that is cryptographic: it keeps no state that a fork would copy, needs nothing but a C
//! compiler, and is what `wasi:tls` brings, so that the process has one provider. Nothing here knows sockets; `request/protection.rs` does.

mod counts;
mod identity;
mod info;
mod names;
mod remote;
mod tickets;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, SupportedProtocolVersion, sign::SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

pub use counts::Handshakes;
pub use identity::{IdentityFiles, IdentityFilesError, IdentityStatus, TlsLoadError};
pub(crate) use info::alert_name;
pub use info::{TlsError, TlsFailure, TlsInfo};
pub(crate) use remote::{Answer, Answering, Ask, AskedTooMuch, Host, RemoteKeeper};

use counts::HandshakeCounts;
use identity::{Identities, Identity, load_roots};
use tickets::{TicketKeys, Tickets, TicketsOf};

/// How stream servers protect connections; the names are those of the command line's options.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The certificates that the server may show; the first is the default.
    pub identities: Vec<IdentityFiles>,
    /// Certificates that clients' own are verified by, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients need a certificate; without a `client_ca` none is asked for, whatever this is.
    pub client_auth: ClientAuth,
    /// The oldest version of the protocol (1.2).
    pub min_version: TlsVersion,
    /// How long a client may take for the handshake (10 s).
    pub handshake_timeout: Duration,
    /// The application protocols that listeners of TLS agree on, the preferred first; with none whatever the client wants is left open.
    pub alpn: Vec<String>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            identities: Vec::new(),
            client_ca: None,
            client_auth: ClientAuth::Require,
            min_version: TlsVersion::V1_2,
            handshake_timeout: Duration::from_secs(10),
            alpn: Vec::new(),
        }
    }
}

impl TlsOptions {
    /// The files that they name.
    pub fn files(&self) -> Vec<PathBuf> {
        let own = self.identities.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
        own.chain(&self.client_ca).cloned().collect()
    }
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// None is asked for.
    Off,
    /// One is asked for, and has to be good if it comes.
    Request,
    /// Who has none is refused.
    Require,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "request" => Ok(Self::Request),
            "require" => Ok(Self::Require),
            _ => Err("use off, request or require".to_owned()),
        }
    }
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            _ => Err("use 1.2 or 1.3; what is older is broken".to_owned()),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

impl TlsVersion {
    /// This one and what is newer.
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        static NEWEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Self::V1_2 => rustls::ALL_VERSIONS,
            Self::V1_3 => &NEWEST,
        }
    }
}

/// What holds an operator's certificates and keys for a process. Cloning is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: TlsOptions,
    current: ArcSwap<Loaded>,
    tickets: Arc<Tickets>,
}

/// What the files were when they were last loaded.
#[derive(Debug)]
struct Loaded {
    identities: Identities,
    clients: Clients,
    /// For each identity, with the ALPN of listeners.
    configs: Vec<Arc<ServerConfig>>,
}

/// Which clients are served. Everything in it may be known to a process that runs guest code.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Clients {
    auth: ClientAuth,
    /// What their certificates are verified by, in DER; with none no certificate is asked for.
    roots: Vec<Vec<u8>>,
    min_version: TlsVersion,
}

/// What another process resumes sessions by.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sessions {
    keys: TicketKeys,
    /// Of the [`Clients`] that were let in: who resumes a session does not show its certificate again.
    clients: Vec<u8>,
}

/// What a connection asks its server's [`ServerConfig`] by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The identity that the handler names.
    pub(crate) identity: Option<String>,
    /// The application protocols that it offers; `None` where the listener does.
    pub(crate) alpn: Option<Vec<String>>,
    /// Those that are offered where the listener has none either.
    pub(crate) default_alpn: Vec<String>,
    /// The name that the client asks for.
    pub(crate) server_name: Option<String>,
}

impl Wanted {
    /// The application protocols to offer, where the operator has these.
    fn alpn<'a>(&'a self, listeners: &'a [String]) -> &'a [String] {
        match &self.alpn {
            Some(alpn) => alpn,
            None if listeners.is_empty() => &self.default_alpn,
            None => listeners,
        }
    }
}

/// What has an operator's certificates, or asks a process that has.
pub(crate) trait Keeper: fmt::Debug + Send + Sync {
    /// What to serve a connection with. It may take a moment, and does not wait for the client.
    fn config(&self, wanted: &Wanted) -> Result<Arc<ServerConfig>, TlsError>;

    /// How long a handshake may take.
    fn handshake_timeout(&self) -> Duration;

    /// Counts a handshake that has ended.
    fn ended(&self, handshake: &Result<TlsInfo, TlsError>);

    /// What answers a process without keys that serves one of its connections.
    fn answering(self: Arc<Self>) -> Option<Answering>;
}

/// The TLS of one server: what it shares with others, and how its own handshakes went.
#[derive(Debug)]
pub(crate) struct ServerTls {
    tls: Tls,
    counts: HandshakeCounts,
}

impl ServerTls {
    pub(crate) fn new(tls: Tls) -> Arc<Self> {
        Arc::new(Self { tls, counts: HandshakeCounts::default() })
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    pub(crate) fn handshakes(&self) -> Handshakes {
        self.counts.so_far()
    }
}

impl Keeper for ServerTls {
    fn config(&self, wanted: &Wanted) -> Result<Arc<ServerConfig>, TlsError> {
        self.tls.config(wanted)
    }

    fn handshake_timeout(&self) -> Duration {
        self.tls.0.options.handshake_timeout
    }

    fn ended(&self, handshake: &Result<TlsInfo, TlsError>) {
        self.counts.count(handshake);
    }

    fn answering(self: Arc<Self>) -> Option<Answering> {
        Some(Answering::new(self))
    }
}

/// Looks whether there are certificates in a file that others can be verified by.
pub(crate) fn check_roots(file: &Path) -> Result<(), TlsLoadError> {
    load_roots(file).map(drop)
}

/// The one provider of this process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Tls {
    /// Loads what the options name, and checks it.
    pub fn load(options: TlsOptions) -> Result<Self, TlsLoadError> {
        let tickets = Arc::new(Tickets::new(TicketKeys::new()));
        let loaded = Loaded::load(&options, &tickets)?;
        loaded.identities.warn_of_expiry();
        Ok(Self(Arc::new(Inner { options, current: ArcSwap::from_pointee(loaded), tickets })))
    }

    /// Loads the files again. If one of them is not fit, all stays as it was. Open connections keep what they have.
    pub fn reload(&self) -> Result<(), TlsLoadError> {
        self.load_again()?.put();
        Ok(())
    }

    /// Loads the files again, to be put in place later together with something else.
    pub fn load_again(&self) -> Result<LoadedAgain, TlsLoadError> {
        let loaded = Loaded::load(&self.0.options, &self.0.tickets)?;
        Ok(LoadedAgain { tls: self.clone(), loaded })
    }

    /// What is known of its identities.
    pub fn identities(&self) -> Vec<IdentityStatus> {
        self.0.current.load().identities.status()
    }

    /// Warns in the log of what expires soon.
    pub fn warn_of_expiry(&self) {
        self.0.current.load().identities.warn_of_expiry();
    }

    /// What another process needs to resume the sessions that this one has begun.
    pub(crate) fn sessions(&self) -> Sessions {
        Sessions { keys: self.0.tickets.keys(), clients: self.0.current.load().clients.digest() }
    }

    /// The digests of its certificates, by which another process finds those whose sessions it goes on with.
    pub(crate) fn certificates(&self) -> Vec<Vec<u8>> {
        self.0.current.load().identities.iter().map(|identity| identity.digest.to_vec()).collect()
    }

    /// Resumes sessions that another process has begun, if it let the same clients in.
    pub(crate) fn take_over(&self, sessions: Sessions) {
        if sessions.clients == self.0.current.load().clients.digest() {
            self.0.tickets.take_over(sessions.keys);
        }
    }

    /// What to serve a connection with in this process.
    fn config(&self, wanted: &Wanted) -> Result<Arc<ServerConfig>, TlsError> {
        let loaded = self.0.current.load();
        let number = loaded.identities.choose(wanted)?;
        let config = &loaded.configs[number];
        let alpn = wanted.alpn(&self.0.options.alpn);
        Ok(match alpn == self.0.options.alpn {
            true => config.clone(),
            false => Arc::new(with_alpn((**config).clone(), alpn)),
        })
    }
}

/// What the files were when they were loaded again. Dropped, it leaves all as it was.
#[must_use]
#[derive(Debug)]
pub struct LoadedAgain {
    tls: Tls,
    loaded: Loaded,
}

impl LoadedAgain {
    /// Has new connections protected by it.
    pub fn put(self) {
        let Self { tls: Tls(inner), loaded } = self;
        loaded.identities.warn_of_expiry();
        // Who resumes a session does not show its certificate again.
        let has_other_clients = loaded.clients.roots != inner.current.load().clients.roots;
        inner.current.store(Arc::new(loaded));
        if has_other_clients {
            inner.tickets.take_over(TicketKeys::new());
        }
    }
}

impl Loaded {
    fn load(options: &TlsOptions, tickets: &Arc<Tickets>) -> Result<Self, TlsLoadError> {
        let identities = Identities::load(&options.identities)?;
        let roots = options.client_ca.as_deref().map(load_roots).transpose()?.unwrap_or_default();
        let clients = Clients { auth: options.client_auth, roots, min_version: options.min_version };
        let verifier = clients.verifier().map_err(|reason| TlsLoadError::client_ca(options, reason))?;
        let config = |identity: &Identity| {
            let key = SingleCertAndKey::from(identity.certified_key.clone());
            let tickets = TicketsOf { tickets: tickets.clone(), certificate: identity.digest };
            let config = server_config(&clients, verifier.clone(), Arc::new(key), Arc::new(tickets));
            Arc::new(with_alpn(config, &options.alpn))
        };
        let configs = identities.iter().map(config).collect();
        Ok(Self { identities, clients, configs })
    }
}

impl Clients {
    fn digest(&self) -> Vec<u8> {
        let bytes = postcard::to_stdvec(self).expect("it is bytes and numbers");
        digest(&SHA256, &bytes).as_ref().to_vec()
    }

    /// Whether they are asked for certificates.
    fn are_verified(&self) -> bool {
        !self.roots.is_empty() && self.auth != ClientAuth::Off
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, String> {
        if !self.are_verified() {
            return Ok(Arc::new(NoClientAuth));
        }
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(CertificateDer::from(root.as_slice())).map_err(|error| error.to_string())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = match self.auth {
            ClientAuth::Request => verifier.allow_unauthenticated(),
            ClientAuth::Off | ClientAuth::Require => verifier,
        };
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        Ok(verifier)
    }
}

/// The same wherever the keys are: here, or in the process that is asked for them.
fn server_config(
    clients: &Clients,
    verifier: Arc<dyn ClientCertVerifier>,
    certificate: Arc<dyn rustls::server::ResolvesServerCert>,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(clients.min_version.and_newer())
        .expect("the provider has ciphers for all versions");
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(certificate);
    // Sessions are in the clients' tickets, so that any process resumes what another began.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config
}

fn with_alpn(mut config: ServerConfig, alpn: &[String]) -> ServerConfig {
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    config
}

/// Chooses what clients of TLS encrypt by that are made by others' code: where several could be chosen from, it would panic.
pub(crate) fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
