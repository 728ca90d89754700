//! Addresses as text and as the standard library's types; what a server type is.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::bindings::wasi::sockets::network::IpSocketAddress;
use crate::{Address, ServerType, UnixAddress};

impl Address {
    /// The Internet address, unless this names a Unix socket.
    ///
    /// ```
    /// # use plugsock_sdk::Address;
    /// let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 79)));
    /// assert_eq!(address.ip().map(|ip| ip.port()), Some(79));
    /// ```
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(IpSocketAddress::Ipv4(v4)) => {
                let (a, b, c, d) = v4.address;
                Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), v4.port).into())
            }
            Address::Ip(IpSocketAddress::Ipv6(v6)) => {
                let (a, b, c, d, e, f, g, h) = v6.address;
                let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                Some(SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into())
            }
            Address::Unix(_) => None,
        }
    }
}

/// For [`Request::send_to`](crate::Request::send_to).
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        use crate::bindings::wasi::sockets::network::{Ipv4SocketAddress, Ipv6SocketAddress};
        Address::Ip(match address {
            SocketAddr::V4(v4) => {
                IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: v4.ip().octets().into() })
            }
            SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: v6.ip().segments().into(),
                scope_id: v6.scope_id(),
            }),
        })
    }
}

/// `192.0.2.1:79`, `[2001:db8::1]:79`, `/run/a.sock`, `@abstract`, or `unnamed`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip(), self) {
            (Some(ip), _) => ip.fmt(f),
            (None, Address::Unix(UnixAddress::Pathname(path))) => f.write_str(path),
            (None, Address::Unix(UnixAddress::AbstractName(name))) => {
                write!(f, "@{}", name.escape_ascii())
            }
            (None, _) => f.write_str("unnamed"),
        }
    }
}

impl ServerType {
    /// Whether a request is one packet, and not a connection.
    pub fn is_datagram(self) -> bool {
        matches!(self, ServerType::Udp | ServerType::UnixDatagram)
    }
}

/// `tcp`, `udp`, `unix-stream` or `unix-datagram`.
impl fmt::Display for ServerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerType::Tcp => "tcp",
            ServerType::Udp => "udp",
            ServerType::UnixStream => "unix-stream",
            ServerType::UnixDatagram => "unix-datagram",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        for text in ["192.0.2.1:79", "[2001:db8::1]:79", "[fe80::1%3]:79"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).to_string(), text);
            assert_eq!(Address::from(address).ip(), Some(address));
        }
        let unix = |address| Address::Unix(address).to_string();
        assert_eq!(unix(UnixAddress::Pathname("/run/a".into())), "/run/a");
        assert_eq!(unix(UnixAddress::AbstractName(b"a\0b".into())), "@a\\x00b");
        assert_eq!(unix(UnixAddress::Unnamed), "unnamed");
    }
}
