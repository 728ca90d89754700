//! The connection to the server behind.

use std::net::IpAddr;

use plugsock_sdk::wasi::io::streams::{InputStream, OutputStream};
use plugsock_sdk::{HandlerError, Result};

use crate::bindings::instance_network::instance_network;
use crate::bindings::ip_name_lookup::resolve_addresses;
use crate::bindings::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use crate::bindings::tcp::{ShutdownType, TcpSocket};
use crate::bindings::tcp_create_socket::create_tcp_socket;

/// An open connection; its streams have to be dropped before its socket.
pub struct Upstream {
    pub input: InputStream,
    pub output: OutputStream,
    pub socket: TcpSocket,
}

impl Upstream {
    /// Connects to `HOST:PORT`, at the first of the host's addresses that answers.
    pub fn connect(target: &str) -> Result<Self> {
        let failed = |reason: String| HandlerError::new(format!("cannot connect to {target}: {reason}"));
        let (host, port) = target
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .ok_or_else(|| failed("it is not HOST:PORT".to_owned()))?;
        let network = instance_network();
        let addresses = resolve(&network, host).map_err(|error| failed(in_words(error)))?;
        let mut last = ErrorCode::NameUnresolvable;
        for address in addresses {
            match connect(&network, address, port) {
                Ok(upstream) => return Ok(upstream),
                Err(error) => last = error,
            }
        }
        Err(failed(in_words(last)))
    }
}

/// Tells the server behind that nothing more comes.
pub fn end_sending(socket: &TcpSocket) -> Result {
    match socket.shutdown(ShutdownType::Send) {
        // It has gone already.
        Ok(()) | Err(ErrorCode::InvalidState) => Ok(()),
        Err(error) => Err(HandlerError::new(in_words(error))),
    }
}

fn resolve(network: &Network, host: &str) -> Result<Vec<IpAddress>, ErrorCode> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = literal.parse() {
        return Ok(vec![ip_address(ip)]);
    }
    let lookup = resolve_addresses(network, host)?;
    let mut addresses = Vec::new();
    loop {
        match lookup.resolve_next_address() {
            Ok(Some(address)) => addresses.push(address),
            Ok(None) => return Ok(addresses),
            Err(ErrorCode::WouldBlock) => lookup.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}

fn connect(network: &Network, address: IpAddress, port: u16) -> Result<Upstream, ErrorCode> {
    let (family, address) = match address {
        IpAddress::Ipv4(address) => {
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }))
        }
        IpAddress::Ipv6(address) => {
            let address = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    };
    let socket = create_tcp_socket(family)?;
    socket.start_connect(network, address)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok(Upstream { input, output, socket }),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}

fn ip_address(ip: IpAddr) -> IpAddress {
    match ip {
        IpAddr::V4(v4) => IpAddress::Ipv4(v4.octets().into()),
        IpAddr::V6(v6) => IpAddress::Ipv6(v6.segments().into()),
    }
}

fn in_words(error: ErrorCode) -> String {
    match error {
        ErrorCode::AccessDenied | ErrorCode::NotSupported => {
            "the server was not granted this: --allow-net HOST:PORT".to_owned()
        }
        other => other.name().to_owned(),
    }
}
