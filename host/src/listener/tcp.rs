//! `TCPServer`'s socket.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::SocketOptions;

pub(super) fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&socket, address, options)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets what must be set before an internet socket is bound.
pub(super) fn prepare(socket: &Socket, address: SocketAddr, options: &SocketOptions) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
    }
    if options.allow_reuse_address {
        socket.set_reuse_address(true)?;
    }
    if options.allow_reuse_port {
        socket.set_reuse_port(true)?;
    }
    Ok(())
}
