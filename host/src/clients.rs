//! Who may be a client, how many of them at once, and how often: what is asked of a newcomer right after it was
//! accepted, before it costs a place, a thread or an instance.
//!
//! ```text
//!  PROXY header ─▶ allow, deny ─▶ open from one source ─▶ rate of one source ─▶ rate of all
//! ```
//!
//! Each question costs the same however many sources there are. What is known of a source takes bounded room, so
//! that made-up sources cannot fill the memory.

mod networks;
mod proxies;
mod proxy_protocol;
mod rate;
mod recent;
mod refused;
mod source;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
pub use networks::{NetworkError, Networks};
pub use proxies::Proxies;
pub(crate) use proxy_protocol::ProxyHeaders;
pub(crate) use rate::Allowance;
pub use rate::{Rate, RateError};
pub use refused::Refused;
pub(crate) use refused::{Refusal, Refusals};
pub(crate) use source::SourceCount;

use crate::request::Request;
use rate::NoneLeft;
use recent::Recent;
use source::{OpenBySource, Source};

/// What a server asks of its clients. By default it takes any, and as many as there is room for.
///
/// A client that is refused sees its connection closed, or gets no reply to its datagram, and is counted in
/// [`Server::refused`](crate::Server::refused).
#[derive(Clone, Debug, Default)]
pub struct ClientLimits {
    /// How many requests of this server may be open at once. More wait in the listen queue, as beyond
    /// [`Limits::max_requests`](crate::Limits), which is for all servers of a sandbox together.
    pub max_connections: Option<usize>,
    /// How many of them may come from one source: an IPv4 address, an IPv6 network of 64 bits, a user on a Unix
    /// socket. More are refused.
    pub max_connections_per_ip: Option<usize>,
    /// How often a request may come, from all sources together. Those beyond are refused.
    pub connection_rate: Option<Rate>,
    /// How often a request may come from one source. Those beyond are refused.
    pub connection_rate_per_ip: Option<Rate>,
    /// If there are any, only internet clients in one of these networks are served.
    pub allow: Networks,
    /// Internet clients in one of these networks are refused, unless a smaller network allows them.
    pub deny: Networks,
    /// Stream servers: whose connections begin with a PROXY protocol header, of version 1 or 2. The client's
    /// address is the one that it carries, also for the limits above. From anybody else a header is data.
    pub proxy_protocol: Proxies,
}

/// Keeps a server's [`ClientLimits`].
#[derive(Debug)]
pub(crate) struct Clients {
    limits: ArcSwap<ClientLimits>,
    refusals: Arc<Refusals>,
    open: Arc<OpenBySource>,
    /// What times are counted from.
    epoch: Instant,
    rates: Mutex<Rates>,
}

/// What was used of the rates.
#[derive(Debug)]
struct Rates {
    all: Allowance,
    by_source: Recent<Source, Allowance>,
}

impl Clients {
    /// For the server at this address.
    pub(crate) fn new(limits: ClientLimits, address: String) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            refusals: Arc::new(Refusals::at(address)),
            open: Arc::default(),
            epoch: Instant::now(),
            rates: Mutex::new(Rates { all: Allowance::default(), by_source: Recent::default() }),
        }
    }

    /// Whether a newcomer may be turned away for who it is; if not, there is no sense in looking at one for which
    /// there is no room.
    pub(crate) fn are_choosy(&self) -> bool {
        let limits = self.limits.load();
        limits.max_connections_per_ip.is_some()
            || limits.connection_rate.is_some()
            || limits.connection_rate_per_ip.is_some()
            || !limits.allow.is_empty()
            || !limits.deny.is_empty()
    }

    /// What takes the headers off connections that begin with one, if any do.
    pub(crate) fn proxy_headers(&self) -> io::Result<Option<ProxyHeaders>> {
        let limits = self.limits.load();
        let proxies = &limits.proxy_protocol;
        (!proxies.is_empty()).then(|| ProxyHeaders::new(proxies.clone())).transpose()
    }

    /// How many requests of this server may be open, by its operator's word.
    pub(crate) fn max_connections(&self) -> Option<usize> {
        self.limits.load().max_connections
    }

    /// From now on asks this of newcomers. What was counted goes on to count; who is trusted with PROXY headers stays.
    pub(crate) fn set_limits(&self, limits: ClientLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// Whom this server has turned away.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Counts a newcomer for its source, if sources are counted; or says why it is turned away.
    pub(crate) fn admit(&self, request: &Request) -> Result<Option<SourceCount>, Refusal> {
        if !self.are_choosy() {
            return Ok(None);
        }
        let limits = self.limits.load();
        let client = request.client_address();
        if !networks::is_allowed(&limits.allow, &limits.deny, client) {
            return Err(Refusal::Denied);
        }
        let source = Source::of(client, request.unix_credentials());
        let count = match (source, limits.max_connections_per_ip) {
            (Some(source), Some(max)) => {
                Some(OpenBySource::enter(&self.open, source, max).ok_or(Refusal::OpenPerIp(max))?)
            }
            _ => None,
        };
        self.take_from_rates(&limits, source)?;
        Ok(count)
    }

    /// One that is refused by its own rate takes nothing from that of all.
    fn take_from_rates(&self, limits: &ClientLimits, source: Option<Source>) -> Result<(), Refusal> {
        let now = self.epoch.elapsed();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(source), Some(rate)) = (source, limits.connection_rate_per_ip) {
            let allowance = rates.by_source.entry(source);
            allowance.take(rate, now).map_err(|NoneLeft| Refusal::RatePerIp(rate))?;
        }
        if let Some(rate) = limits.connection_rate {
            rates.all.take(rate, now).map_err(|NoneLeft| Refusal::Rate(rate))?;
        }
        Ok(())
    }
}
