//! `UDPServer`'s socket.

use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{SocketOptions, tcp};

pub(super) fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    if address.ip().is_multicast() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a multicast group is not an address of this machine",
        ));
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // On a datagram socket SO_REUSEADDR would let another process take over the address.
    tcp::prepare(&socket, address, &SocketOptions { allow_reuse_address: false, ..options.clone() })?;
    socket.bind(&address.into())?;
    if address.ip().is_unspecified() {
        // The kernel tells which address each packet was sent to: the reply must come from there.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    Ok(socket)
}
