//! Python's `socketserver` with the handler class replaced by a sandboxed WebAssembly component: plug in a
//! handler, get a socket server.
//!
//! A [`Server`] binds an address and has each request served by a fresh instance of its [`Handler`], which a
//! [`Sandbox`] loads and runs. Five lines make one:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use plugsock::{Sandbox, TcpServer};
//!
//! let sandbox = Sandbox::new(Default::default())?;
//! let server = TcpServer::bind("127.0.0.1:10001", sandbox.echo()?)?;
//! server.serve_forever()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`server`](Server): the whole way of a request, accept → verify → strategy → serve → close.
//! - `listener`: where requests come from; one file a server type.
//! - `clients`: who is served, how many at once, and how often.
//! - `job`: one request on its way, with all that it owns of its server.
//! - `request`: one accepted connection or received packet.
//! - `tls`: certificates, keys, and what connections are protected with.
//! - `concurrency`: where a request is served; one file a strategy.
//! - `fork_server`: the process that forks for each request.
//! - `helper_process`: how it and the compiler are started, and what they give up.
//! - [`helper_log`]: what these log, and where to.
//! - `sandbox`: one fresh instance for each request, within its limits.
//! - `stores`: state that outlives requests, whoever keeps it.
//! - `slot`: which version of a handler serves, and how another takes its place.
//! - `upgrade`: how another process takes over.
//! - [`surroundings`]: what a process has inherited, set to what serving needs; `child_process`: what it starts.
//! - `events`: what happens, for those who follow it.
//! - [`control`]: a socket to look at servers and to change them while they serve.
//! - [`metrics`]: what is counted of them, for Prometheus, for OpenTelemetry, and for people.
//! - [`traces`]: what single requests did, for OpenTelemetry; `otlp`: how both are sent.

#![deny(unsafe_code)]

#[doc = include_str!("../SOCKETSERVER.md")]
pub mod socketserver {}

mod address;
mod admission;
mod block_on;
mod child_process;
mod clients;
mod concurrency;
pub mod control;
mod error;
mod events;
mod fork_server;
pub mod helper_log;
mod helper_process;
mod histogram;
mod http_options;
mod job;
mod listener;
mod log_limit;
pub mod metrics;
mod nats;
mod otlp;
mod own_directory;
mod packed;
mod passwords;
mod request;
mod runtime;
mod sandbox;
mod server;
mod server_info;
mod slot;
mod stores;
pub mod surroundings;
mod sync;
mod taken;
mod tls;
pub mod traces;
pub mod upgrade;
mod wake;

pub use address::{AddressError, ServeAddress, ServerType, SocketAddress, UnixAddress};
pub use clients::{ClientLimits, NetworkError, Networks, Proxies, Rate, RateError, Refused};
pub use concurrency::Concurrency;
pub use error::{
    BindError, Cause, HandlerError, Limit, Phase, RequestError, SandboxError, ServeError, SwapError, causes,
    one_line, shown,
};
pub use helper_process::become_helper_process_if_asked;
pub use http_options::{AccessLog, Forwarded, HttpOptions};
pub use job::{Job, NoHooks, ServerHooks};
pub use listener::{Listener, SocketOptions, UnixSocketOptions, server_type_of};
pub use nats::{Refusals, nats_options};
pub use own_directory::{check_own_directory, make_own_directory};
pub use passwords::without_password;
pub use request::{MinRate, MinRateError, Request, UnixCredentials};
pub use sandbox::{
    Anatomy, CacheOptions, CompileOptions, CoreDumpOptions, Digest, DigestError, DirGrant, Extent, Fetched,
    Grants, Handler, HandlerKind, Import, Inspection, Limits, NetGrant, NetGrantError, NetHost, Origin,
    Profile, PublicKey, PublicKeyError, Sandbox, SandboxOptions, SignatureError, TlsCa, TlsCaError, Trust,
    signature_path,
};
pub use server::{Server, ServerOptions, TcpServer, UdpServer, UnixDatagramServer, UnixStreamServer};
pub use server_info::ServerInfo;
pub use slot::{
    Loader, Probe, Ready, RollbackPolicy, Share, Slot, SlotOptions, Source, SwapOptions, Swapped,
    VersionState, VersionStats,
};
pub use stores::{
    OpenStore, StateGrant, StateGrantError, StateLimits, StoreError, StoreUrl, StoreUrlError, advised,
    close_stores,
};
pub use tls::{
    ClientAuth, Handshakes, IdentityFiles, IdentityFilesError, IdentityStatus, LoadedAgain, Tls, TlsError,
    TlsFailure, TlsInfo, TlsLoadError, TlsOptions, TlsVersion,
};
