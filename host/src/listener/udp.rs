//! `UDPServer`'s socket.

use std::io;
use std::net::SocketAddr;

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
    Ok(socket)
}
