//! `--allow-net HOST:PORT`: where handlers may connect to, as it is written and what it covers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Hosts, and one port of theirs or all, that handlers may connect or send to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NetGrant {
    /// Which hosts.
    pub host: NetHost,
    /// Which port; `None` for every one.
    pub port: Option<u16>,
}

/// The hosts of a [`NetGrant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetHost {
    /// The public addresses that a name has when a handler resolves it. In lower case.
    Name(String),
    /// Addresses, private ones too.
    Network(IpNet),
}

/// Why a text is no [`NetGrant`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write HOST:PORT, where HOST is a name, an address or a network and PORT a number or `*`, as in db.example.org:5432, 10.0.0.0/8:* or [::1]:53"
)]
pub struct NetGrantError;

impl FromStr for NetGrant {
    type Err = NetGrantError;

    fn from_str(text: &str) -> Result<Self, NetGrantError> {
        let (host, port) = text.rsplit_once(':').ok_or(NetGrantError)?;
        let port = match port {
            "*" => None,
            port if port.starts_with('+') => return Err(NetGrantError),
            port => Some(port.parse().ok().filter(|port| *port != 0).ok_or(NetGrantError)?),
        };
        let host = if let Some(network) = host.strip_prefix('[') {
            let network = parse_network(network.strip_suffix(']').ok_or(NetGrantError)?)?;
            matches!(network, IpNet::V6(_)).then_some(NetHost::Network(network)).ok_or(NetGrantError)?
        } else if host.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'/')) {
            NetHost::Network(parse_network(host)?)
        } else {
            NetHost::Name(parse_name(host)?)
        };
        Ok(Self { host, port })
    }
}

impl NetGrant {
    pub(crate) fn is_name(&self) -> bool {
        matches!(self.host, NetHost::Name(_))
    }
}

/// A network, or a single address.
fn parse_network(text: &str) -> Result<IpNet, NetGrantError> {
    let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    network.map_err(|_| NetGrantError)
}

fn parse_name(text: &str) -> Result<String, NetGrantError> {
    let name = canonical_name(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(name),
        false => Err(NetGrantError),
    }
}

/// Names are compared without regard to case, and `example.org.` is `example.org`.
pub(super) fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl fmt::Display for NetGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            NetHost::Name(name) => f.write_str(name)?,
            NetHost::Network(IpNet::V4(network)) => write!(f, "{network}")?,
            NetHost::Network(IpNet::V6(network)) => write!(f, "[{network}]")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

impl From<NetGrant> for String {
    fn from(grant: NetGrant) -> Self {
        grant.to_string()
    }
}

impl TryFrom<String> for NetGrant {
    type Error = NetGrantError;

    fn try_from(text: String) -> Result<Self, NetGrantError> {
        text.parse()
    }
}

/// Whether an address is of the Internet at large, and not of this machine, a private network or a special
/// purpose: what a name may lead to without a further grant.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_special = matches!(
        (a, b, c),
        // This network; shared between carriers; protocol assignments; 6to4 relays; benchmarks; reserved.
        (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18..=19, _) | (240.., ..)
    );
    !(is_special
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || v4.is_documentation())
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // NAT64 and 6to4 lead to an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All others that are of the Internet at large.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
