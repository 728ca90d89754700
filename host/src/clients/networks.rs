//! Which internet addresses are served.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::address::SocketAddress;

/// Networks of internet addresses, as `10.0.0.0/8,2001:db8::/32,192.0.2.1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// Why a network is refused.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It is neither an address nor a network.
    #[error("'{0}' is no network: write an address, or one with a prefix's length, as in 192.0.2.0/24")]
    Form(String),
    /// It has bits beyond its prefix, which may be a mistake in either.
    #[error(
        "network '{0}' has bits beyond its prefix: write {1}, or leave the prefix out for the one address"
    )]
    Bits(String, IpNet),
}

impl Networks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.closest(address).is_some()
    }

    /// The length of the longest prefix that the address has.
    fn closest(&self, address: IpAddr) -> Option<u8> {
        let address = address.to_canonical();
        self.0.iter().filter(|network| network.contains(&address)).map(IpNet::prefix_len).max()
    }
}

/// Joins several lists.
impl FromIterator<Networks> for Networks {
    fn from_iter<I: IntoIterator<Item = Self>>(lists: I) -> Self {
        Self(lists.into_iter().flat_map(|list| list.0).collect())
    }
}

/// As in xinetd, the smallest network that contains the client decides; denying wins between equals. With
/// nothing said of the client, it is served unless there are networks that are. Unix clients are never in any.
pub(super) fn is_allowed(allow: &Networks, deny: &Networks, client: &SocketAddress) -> bool {
    let SocketAddress::Inet(client) = client else { return true };
    match (allow.closest(client.ip()), deny.closest(client.ip())) {
        (allowed, Some(denied)) => allowed.is_some_and(|allowed| allowed > denied),
        (Some(_), None) => true,
        (None, None) => allow.is_empty(),
    }
}

/// Takes several, separated by commas.
impl FromStr for Networks {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }
}

fn parse(text: &str) -> Result<IpNet, NetworkError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| NetworkError::Form(text.to_owned()))?;
    match network.trunc() {
        whole if whole == network => Ok(network),
        whole => Err(NetworkError::Bits(text.to_owned(), whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        if text.is_empty() { Networks::default() } else { text.parse().unwrap() }
    }

    #[test]
    fn the_smallest_network_decides() {
        for (allow, deny, client, is_served) in [
            ("", "", "10.0.0.1", true),
            ("10.0.0.0/8", "", "10.0.0.1", true),
            ("10.0.0.0/8", "", "11.0.0.1", false),
            ("10.0.0.0/8", "", "::1", false),
            ("", "10.0.0.0/8", "10.0.0.1", false),
            ("", "10.0.0.0/8", "11.0.0.1", true),
            ("10.0.0.0/8", "10.1.0.0/16", "10.1.0.1", false),
            ("10.0.0.0/8,10.1.2.3", "10.1.0.0/16", "10.1.2.3", true),
            ("10.1.2.3", "0.0.0.0/0", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", "10.1.2.3", false),
            ("", "10.0.0.0/8", "::ffff:10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1", false),
            ("2001:db8::/32", "2001:db8:1::/48", "2001:db8:2::1", true),
        ] {
            let client_address = SocketAddress::Inet((client.parse::<IpAddr>().unwrap(), 1).into());
            let is_allowed = is_allowed(&networks(allow), &networks(deny), &client_address);
            assert_eq!(is_allowed, is_served, "allow {allow}, deny {deny}, client {client}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("", "no network"),
            ("10.0.0.0/33", "no network"),
            ("localhost", "no network"),
            ("10.0.0.1,", "no network"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
        ] {
            let error = text.parse::<Networks>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
