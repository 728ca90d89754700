//! The environment variables that tell a program whom it serves, by the names of the UCSPI tools: `PROTO`,
//! and with that as their prefix both ends of the connection.

use crate::address::{ServerType, SocketAddress, UnixAddress};
use crate::request::Request;
use crate::server_info::ServerInfo;
use crate::tls::TlsInfo;

type Environment = Vec<(&'static str, String)>;

/// The variables of one request.
pub(super) fn environment(server: &ServerInfo, request: &Request) -> Environment {
    let mut environment = ends(server, request);
    if let Some(tls) = request.tls() {
        environment.extend(protection(tls));
    }
    environment
}

/// How the connection is protected, by the names of UCSPI's TLS tools, and of Apache's `mod_ssl` for what they lack.
fn protection(tls: &TlsInfo) -> Environment {
    let mut variables = vec![
        ("SSL_PROTOCOL", tls.protocol.clone()),
        ("SSL_CIPHER", tls.cipher_suite.clone()),
        ("SSL_SESSION_RESUMED", if tls.resumed { "Resumed" } else { "Initial" }.to_owned()),
        ("SSL_CLIENT_VERIFY", if tls.client_certificates.is_empty() { "NONE" } else { "SUCCESS" }.to_owned()),
    ];
    variables.extend(tls.server_name.clone().map(|name| ("SSL_TLS_SNI_SERVERNAME", name)));
    variables.extend(tls.alpn.clone().map(|protocol| ("SSL_TLS_ALPN", protocol)));
    variables.extend(tls.client_names().into_iter().next().map(|name| ("SSL_CLIENT_S_DN", name)));
    variables
}

fn ends(server: &ServerInfo, request: &Request) -> Environment {
    match server.server_type {
        ServerType::Tcp => {
            let (local, remote) = (["TCPLOCALIP", "TCPLOCALPORT"], ["TCPREMOTEIP", "TCPREMOTEPORT"]);
            inet("TCP", local, remote, server, request)
        }
        ServerType::Udp => {
            let (local, remote) = (["UDPLOCALIP", "UDPLOCALPORT"], ["UDPREMOTEIP", "UDPREMOTEPORT"]);
            inet("UDP", local, remote, server, request)
        }
        ServerType::UnixStream | ServerType::UnixDatagram => unix(server, request),
    }
}

/// Without the end that has no internet address, as in a trial of the handler.
fn inet(
    protocol: &str,
    local: [&'static str; 2],
    remote: [&'static str; 2],
    server: &ServerInfo,
    request: &Request,
) -> Environment {
    let mut variables = vec![("PROTO", protocol.to_owned())];
    let local_address = request.local_address(&server.server_address);
    for ([ip, port], address) in [(local, &local_address), (remote, request.client_address())] {
        if let SocketAddress::Inet(address) = address {
            // An IPv4 client of an IPv6 socket is an IPv4 client.
            variables.push((ip, address.ip().to_canonical().to_string()));
            variables.push((port, address.port().to_string()));
        }
    }
    variables
}

fn unix(server: &ServerInfo, request: &Request) -> Environment {
    let mut variables = vec![("PROTO", "UNIX".to_owned())];
    let path = match &server.server_address {
        SocketAddress::Unix(UnixAddress::Path(path)) => Some(path.to_string_lossy().into_owned()),
        SocketAddress::Unix(UnixAddress::Abstract(name)) => {
            Some(format!("@{}", String::from_utf8_lossy(name)))
        }
        SocketAddress::Unix(UnixAddress::Unnamed) | SocketAddress::Inet(_) => None,
    };
    variables.extend(path.map(|path| ("UNIXLOCALPATH", path)));
    if let Some(client) = request.unix_credentials() {
        variables.push(("UNIXREMOTEEUID", client.uid.to_string()));
        variables.push(("UNIXREMOTEEGID", client.gid.to_string()));
        // Unknown where the client is in another pid namespace.
        variables.extend(client.pid.map(|pid| ("UNIXREMOTEPID", pid.to_string())));
    }
    variables
}
