//! Which senders are believed when they say whose connection they pass on.

use std::str::FromStr;

use super::{NetworkError, Networks};
use crate::address::SocketAddress;

/// Senders whose connections begin with a PROXY protocol header: networks, and `unix` for whoever connects to a
/// Unix socket, as `10.0.0.0/8,unix`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Networks,
    unix: bool,
}

impl Proxies {
    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    pub(crate) fn contains(&self, sender: &SocketAddress) -> bool {
        match sender {
            SocketAddress::Inet(sender) => self.networks.contains(sender.ip()),
            SocketAddress::Unix(_) => self.unix,
        }
    }
}

/// Joins several lists.
impl FromIterator<Proxies> for Proxies {
    fn from_iter<I: IntoIterator<Item = Self>>(lists: I) -> Self {
        let mut unix = false;
        let networks =
            lists.into_iter().inspect(|list| unix |= list.unix).map(|list| list.networks).collect();
        Self { networks, unix }
    }
}

/// Takes several, separated by commas.
impl FromStr for Proxies {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let parse = |sender| match sender {
            "unix" => Ok(Self { networks: Networks::default(), unix: true }),
            network => Ok(Self { networks: network.parse()?, unix: false }),
        };
        text.split(',').map(parse).collect()
    }
}
