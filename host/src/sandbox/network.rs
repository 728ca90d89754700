//! Which part of the network a handler reaches: `wasi:sockets` within the grants. It connects and sends, and
//! never listens; it resolves granted names and no others, and a name leads to public addresses alone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::lookup_host;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    self, Host, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, HostNetwork, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, SocketError};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi_http::Error;

use super::net_grant::{NetGrant, NetHost, canonical_name, is_public};
use super::state::State;
use super::watch::Watch;
use crate::error::excerpt_of;
use crate::traces::{Call, Waiting};

/// The most of a name that is noted for a span, in bytes.
const NOTED_MAX: usize = 300;

/// The addresses that one instance may reach: those of the granted networks, and those that it found under
/// granted names. Empty, and free of cost, where nothing is granted.
#[derive(Clone)]
pub(super) struct Reachable(Option<Arc<Inner>>);

struct Inner {
    grants: Vec<NetGrant>,
    names: Mutex<Names>,
}

/// What one instance has learnt of names.
#[derive(Default)]
struct Names {
    /// The name that each of its open lookups is for, by the lookup's resource.
    lookups: HashMap<u32, NameLookedUp>,
    /// What the names stand for.
    found: Vec<(IpAddr, String)>,
}

struct NameLookedUp {
    name: String,
    /// Until it has an answer.
    waiting: Option<Waiting>,
}

/// How many addresses an instance may find: names can have new ones at every look.
const FOUND_MAX: usize = 1000;

impl Reachable {
    pub(super) fn new(grants: &[NetGrant]) -> Self {
        let inner = || Arc::new(Inner { grants: grants.to_vec(), names: Mutex::default() });
        Self((!grants.is_empty()).then(inner))
    }

    /// Lets sockets go to these addresses.
    pub(super) fn grant(&self, builder: &mut WasiCtxBuilder) {
        let Some(inner) = self.0.clone() else { return };
        builder.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true).socket_addr_check(
            move |address, wanted| {
                let is_granted = match wanted {
                    SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
                        inner.has(address)
                    }
                    // Who connects or sends has a port of his own, which the system chooses.
                    SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.port() == 0,
                    SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
                };
                if !is_granted {
                    tracing::debug!("a handler is not granted {address} for {wanted:?}");
                }
                Box::pin(async move { is_granted })
            },
        );
    }
}

impl Reachable {
    /// The addresses that a host's name, or address, stands for and that may be reached.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let inner = self.0.as_ref().ok_or(Error::HttpRequestDenied)?;
        let name = canonical_name(host);
        let found = match name.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) if !inner.is_name_granted(&name) => return Err(Error::HttpRequestDenied),
            Err(_) => {
                let unknown =
                    |error: io::Error| Error::DnsError { rcode: Some(error.to_string()), info_code: None };
                let found = lookup_host((&*name, port)).await.map_err(unknown)?;
                found.filter(|address| inner.find(&name, address.ip())).collect()
            }
        };
        let reachable: Vec<_> = found.into_iter().filter(|address| inner.has(*address)).collect();
        if reachable.is_empty() { Err(Error::DestinationIpProhibited) } else { Ok(reachable) }
    }
}

impl Inner {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let names = self.names();
        self.grants.iter().filter(|grant| grant.port.is_none_or(|port| port == address.port())).any(|grant| {
            match &grant.host {
                NetHost::Network(network) => network.contains(&ip),
                NetHost::Name(granted) => {
                    names.found.iter().any(|(found, name)| *found == ip && name == granted)
                }
            }
        })
    }

    /// A lookup need not be waited for any more.
    fn has_answer(&self, lookup: u32) {
        let waiting = self.names().lookups.get_mut(&lookup).and_then(|lookup| lookup.waiting.take());
        drop(waiting);
    }

    fn is_name_granted(&self, name: &str) -> bool {
        self.grants.iter().any(|grant| matches!(&grant.host, NetHost::Name(granted) if granted == name))
    }

    /// Notes what a name stands for, if it may: `localhost` is this machine by definition, and any other name
    /// leads to a private address only where that is granted itself.
    fn find(&self, name: &str, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let in_network =
            |grant: &NetGrant| matches!(&grant.host, NetHost::Network(network) if network.contains(&ip));
        let is_allowed =
            is_public(ip) || (name == "localhost" && ip.is_loopback()) || self.grants.iter().any(in_network);
        if !is_allowed {
            tracing::warn!("the granted name {name} leads to {ip}, which is private and not granted");
            return false;
        }
        let found = &mut self.names().found;
        let is_new = !found.iter().any(|known| known.0 == ip && known.1 == name);
        if is_new && found.len() < FOUND_MAX {
            found.push((ip, name.to_owned()));
        }
        true
    }
}

/// Puts our name lookup in the place of WASI's own.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<State, NameLookup>(linker, |state| {
        let (reachable, watch) = (state.reachable.clone(), state.watch.clone());
        Lookup { reachable, watch, sockets: state.sockets() }
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

struct NameLookup;

impl HasData for NameLookup {
    type Data<'a> = Lookup<'a>;
}

/// WASI's own lookup, between two checks.
struct Lookup<'a> {
    reachable: Reachable,
    watch: Arc<Watch>,
    sockets: WasiSocketsCtxView<'a>,
}

impl Host for Lookup<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        let name = canonical_name(&name);
        // An address stands for itself, and is looked at when it is used.
        if name.parse::<IpAddr>().is_ok() {
            return self.sockets.resolve_addresses(network, name);
        }
        let reachable = self.reachable.0.as_ref().filter(|reachable| reachable.is_name_granted(&name));
        let reachable = reachable.ok_or(ErrorCode::AccessDenied)?;
        let lookup = self.sockets.resolve_addresses(network, name.clone())?;
        let waiting = self.watch.waiting(|| Call::Lookup { name: excerpt_of(&name, NOTED_MAX) });
        reachable.names().lookups.insert(lookup.rep(), NameLookedUp { name, waiting });
        Ok(lookup)
    }
}

impl HostResolveAddressStream for Lookup<'_> {
    fn resolve_next_address(
        &mut self,
        lookup: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let named = self.reachable.0.as_ref().and_then(|reachable| {
            let name = reachable.names().lookups.get(&lookup.rep())?.name.clone();
            Some((reachable, name))
        });
        loop {
            // One that has no answer yet says so.
            let next = self.sockets.resolve_next_address(Resource::new_borrow(lookup.rep()))?;
            if let Some((reachable, _)) = &named {
                reachable.has_answer(lookup.rep());
            }
            match (&next, &named) {
                (Some(address), Some((reachable, name))) if !reachable.find(name, ip_address(address)) => {}
                _ => return Ok(next),
            }
        }
    }

    fn subscribe(
        &mut self,
        lookup: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        HostResolveAddressStream::subscribe(&mut self.sockets, lookup)
    }

    fn drop(&mut self, lookup: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        if let Some(reachable) = &self.reachable.0 {
            reachable.names().lookups.remove(&lookup.rep());
        }
        HostResolveAddressStream::drop(&mut self.sockets, lookup)
    }
}

impl network::Host for Lookup<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.sockets.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.sockets.network_error_code(error)
    }
}

impl HostNetwork for Lookup<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        HostNetwork::drop(&mut self.sockets, network)
    }
}

fn ip_address(address: &IpAddress) -> IpAddr {
    match *address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}
