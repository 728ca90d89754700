//! TLS that a handler speaks as a client (`wasi:tls`), over streams that it has: those of its sockets lead no further
//! than `--allow-net` lets them.
//!
//! The work is done in tasks of tokio's, which wasmtime aborts when the guest lets go of them or ends. An abort is
//! carried out a little later: so that no connection outlives its request, what the tasks read and write is taken from
//! them by [`Tls`] when the store goes. Their CPU time counts as the request's.

mod config;
mod connection;
mod transport;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use wasmtime::component::Linker;
use wasmtime_wasi_tls::p2::LinkOptions;
use wasmtime_wasi_tls::{
    Error, TlsProvider, TlsStream, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder, WasiTlsCtxView, WasiTlsView,
};

pub(super) use config::client_config;
pub use config::{TlsCa, TlsCaError};

use super::state::State;
use super::watch::{Watch, thread_cpu_time};
use crate::error::excerpt_of;
use crate::traces::Call;
use connection::{Connection, in_words};
use transport::Transport;

/// The connections that one instance may have open or in the making: each takes some hundred kilobytes of the host.
const CONNECTIONS_MAX: usize = 100;

/// The most of a name that is noted for a span, in bytes.
const NOTED_MAX: usize = 300;

/// What one store has of TLS.
pub(super) struct Tls {
    ctx: WasiTlsCtx,
    shared: Arc<Shared>,
}

/// What the connections of one store have in common.
struct Shared {
    /// `None` where no network is granted.
    config: Option<Arc<ClientConfig>>,
    /// Over the request that is served now.
    watch: Mutex<Arc<Watch>>,
    transports: Mutex<Vec<Weak<transport::Inner>>>,
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut options = LinkOptions::default();
    options.tls(true);
    wasmtime_wasi_tls::p2::add_to_linker(linker, &options)
}

impl WasiTlsView for State {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        let (ctx, table) = self.tls_and_table();
        WasiTlsCtxView { ctx, table }
    }
}

impl Tls {
    pub(super) fn new(config: Option<Arc<ClientConfig>>, watch: &Arc<Watch>) -> Self {
        // The builder makes a provider that nobody uses.
        crate::tls::install_provider();
        let shared = Shared { config, watch: Mutex::new(watch.clone()), transports: Mutex::default() };
        let shared = Arc::new(shared);
        let ctx = WasiTlsCtxBuilder::new().provider(Box::new(Provider(shared.clone()))).build();
        Self { ctx, shared }
    }

    pub(super) fn ctx(&mut self) -> &mut WasiTlsCtx {
        &mut self.ctx
    }

    /// From now on the store serves another request.
    pub(super) fn renew(&self, watch: &Arc<Watch>) {
        *lock(&self.shared.watch) = watch.clone();
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let transports = std::mem::take(&mut *lock(&self.shared.transports));
        for transport in transports.iter().filter_map(Weak::upgrade) {
            let taken = lock(&transport).take();
            drop(taken);
        }
    }
}

impl Shared {
    /// Does a part of a connection's work on the request's account.
    fn metered<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu_time();
        let done = work();
        lock(&self.watch).spend(thread_cpu_time().saturating_sub(before));
        done
    }

    fn track(&self, transport: Box<dyn TlsTransport>) -> Result<Transport, Error> {
        let mut transports = lock(&self.transports);
        transports.retain(|transport| transport.strong_count() > 0);
        if transports.len() >= CONNECTIONS_MAX {
            return Err(Error::msg(format!("a request has no more than {CONNECTIONS_MAX} TLS connections")));
        }
        let transport = Transport::new(transport);
        transports.push(transport.downgrade());
        Ok(transport)
    }
}

struct Provider(Arc<Shared>);

impl TlsProvider for Provider {
    fn connect(
        &self,
        server_name: String,
        transport: Box<dyn TlsTransport>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Box<dyn TlsStream>, Error>> + Send>> {
        let shared = self.0.clone();
        let waiting =
            lock(&shared.watch).waiting(|| Call::Tls { server: excerpt_of(&server_name, NOTED_MAX) });
        // Here, and not in the task, so that the connection is known before the guest goes on.
        let transport = shared.track(transport);
        Box::pin(async move {
            let config = shared.config.clone();
            let config = config.ok_or_else(|| Error::msg("the server was not granted this: --allow-net"))?;
            let Ok(name) = ServerName::try_from(server_name) else {
                return Err(Error::msg("the server's name is neither a host name nor an address"));
            };
            let mut connecting = TlsConnector::from(config).connect(name, transport?);
            let connected =
                poll_fn(|context| shared.metered(|| std::pin::Pin::new(&mut connecting).poll(context)));
            let connected = connected.await;
            drop(waiting);
            match connected {
                Ok(stream) => Ok(Box::new(Connection::new(stream, shared)) as Box<dyn TlsStream>),
                Err(error) => Err(Error::msg(in_words(error))),
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
