//! The connection to the server behind.

use std::net::IpAddr;

use plugsock_sdk::wasi::io::streams::{InputStream, OutputStream};
use plugsock_sdk::{HandlerError, Result};

use crate::bindings::wasi::sockets::instance_network::instance_network;
use crate::bindings::wasi::sockets::ip_name_lookup::resolve_addresses;
use crate::bindings::wasi::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use crate::bindings::wasi::sockets::tcp::{ShutdownType, TcpSocket};
use crate::bindings::wasi::sockets::tcp_create_socket::create_tcp_socket;
use crate::bindings::wasi::tls::types::ClientConnection;
use crate::target::Target;
use crate::tls;

/// An open connection; its streams have to be dropped before its TLS, and that before its socket.
pub struct Upstream {
    pub input: InputStream,
    pub output: OutputStream,
    pub tls: Option<ClientConnection>,
    pub socket: TcpSocket,
}

impl Upstream {
    /// Connects to the first of the host's addresses that answers.
    pub fn connect(target: &Target) -> Result<Self> {
        let failed = |reason: String| HandlerError::new(format!("cannot connect to {target}: {reason}"));
        let network = instance_network();
        let addresses = resolve(&network, target.host).map_err(|error| failed(in_words(error)))?;
        let mut last = ErrorCode::NameUnresolvable;
        for address in addresses {
            match connect(&network, address, target.port) {
                Ok((input, output, socket)) if target.is_tls => {
                    let (tls, input, output) = tls::handshake(target.host, input, output).map_err(failed)?;
                    return Ok(Self { input, output, tls: Some(tls), socket });
                }
                Ok((input, output, socket)) => return Ok(Self { input, output, tls: None, socket }),
                Err(error) => last = error,
            }
        }
        Err(failed(in_words(last)))
    }

    /// Tells the server behind that nothing more comes.
    pub fn end_sending(&self) -> Result {
        if let Some(tls) = &self.tls {
            return tls::end_sending(tls, &self.output);
        }
        match self.socket.shutdown(ShutdownType::Send) {
            // It has gone already.
            Ok(()) | Err(ErrorCode::InvalidState) => Ok(()),
            Err(error) => Err(HandlerError::new(in_words(error))),
        }
    }
}

fn resolve(network: &Network, host: &str) -> Result<Vec<IpAddress>, ErrorCode> {
    if let Ok(ip) = host.parse() {
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

fn connect(
    network: &Network,
    address: IpAddress,
    port: u16,
) -> Result<(InputStream, OutputStream, TcpSocket), ErrorCode> {
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
            Ok((input, output)) => return Ok((input, output, socket)),
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
