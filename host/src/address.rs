//! Where a server listens and where a request came from: `tcp://`, `udp://`, `unix://`, `unixgram://`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use socket2::SockAddr;

use crate::passwords::without_password;

/// The four kinds of server, named after their `socketserver` classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServerType {
    /// `TCPServer`: a request is a TCP connection.
    Tcp,
    /// `UDPServer`: a request is a UDP datagram.
    Udp,
    /// `UnixStreamServer`: a request is a connection to a Unix stream socket.
    UnixStream,
    /// `UnixDatagramServer`: a request is a datagram sent to a Unix socket.
    UnixDatagram,
}

impl ServerType {
    /// Every server type, in the order of `socketserver`'s documentation.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::UnixStream, Self::UnixDatagram];

    /// The scheme of this type's addresses.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UnixStream => "unix",
            Self::UnixDatagram => "unixgram",
        }
    }

    /// The scheme of its addresses where connections are protected by TLS from the start; only streams have one.
    fn tls_scheme(self) -> Option<&'static str> {
        match self {
            Self::Tcp => Some("tls"),
            Self::UnixStream => Some("tls+unix"),
            Self::Udp | Self::UnixDatagram => None,
        }
    }

    /// Whether a request is one packet rather than a connection.
    pub fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::UnixDatagram)
    }
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UnixAddress {
    /// Never bound to a name; such a datagram client cannot be answered.
    Unnamed,
    /// A path in the file system.
    Path(#[serde(with = "path_bytes")] PathBuf),
    /// A name in Linux's abstract namespace, without its leading zero byte.
    Abstract(Vec<u8>),
}

/// One end of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SocketAddress {
    /// An IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// A Unix socket's name.
    Unix(UnixAddress),
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<UnixAddress> for SocketAddress {
    fn from(address: UnixAddress) -> Self {
        Self::Unix(address)
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(address) => address.fmt(f),
        }
    }
}

/// Control characters are escaped, so that a client's chosen name keeps a log line whole.
impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("(unnamed)"),
            Self::Path(path) => path.as_os_str().as_bytes().escape_ascii().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

/// Paths need not be UTF-8, which serde's own form insists on.
pub(crate) mod path_bytes {
    use std::os::unix::ffi::OsStringExt;

    use super::{OsStrExt, Path, PathBuf};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let bytes = Vec::deserialize(deserializer)?;
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
}

/// An address to serve, as written by a user; see [`FromStr`] for its forms.
///
/// ```
/// use plugsock::{ServeAddress, ServerType};
///
/// let address: ServeAddress = "tcp://127.0.0.1:10001".parse()?;
/// assert_eq!(address.server_type(), ServerType::Tcp);
/// let address: ServeAddress = "unix://@upper".parse()?;
/// assert_eq!(address.to_string(), "unix://@upper");
/// # Ok::<(), plugsock::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeAddress {
    server_type: ServerType,
    /// Whether connections are protected by TLS before their handler sees them.
    is_tls: bool,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The host may be empty, which means every interface, as in `socketserver`.
    Inet {
        host: String,
        port: u16,
    },
    Unix(UnixAddress),
}

/// Why an address is refused.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It has no `scheme://`.
    #[error(
        "address '{0}' has no scheme: write tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, unix:///PATH, \
         unix://@NAME, tls+unix:///PATH, unixgram:///PATH or unixgram://@NAME"
    )]
    NoScheme(String),
    /// TLS does not protect datagrams.
    #[error(
        "address '{0}' asks for TLS with datagrams, which it does not protect: use tls://HOST:PORT or tls+unix:///PATH"
    )]
    TlsDatagrams(String),
    /// Its scheme is none of those that there are.
    #[error(
        "address '{address}' has the unknown scheme '{scheme}': use tcp, tls, udp, unix, tls+unix or unixgram"
    )]
    UnknownScheme {
        /// The whole address.
        address: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// It has no port, or one that is no number from 0 to 65535.
    #[error(
        "address '{0}' has no valid port: write {1}://HOST:PORT with a port from 0 (any free one) to 65535"
    )]
    Port(String, &'static str),
    /// An IPv6 address without brackets.
    #[error(
        "address '{0}' has a colon in its host: write an IPv6 address in brackets, as in {1}://[::1]:10001"
    )]
    Brackets(String, &'static str),
    /// A host with what no host has in its name.
    #[error("address {0:?} has a space or a control character in its host")]
    Host(String),
    /// A Unix address that is neither an absolute path nor a name.
    #[error("address '{0}' names no socket: write {1}:///absolute/path or {1}://@NAME")]
    UnixName(String, &'static str),
    /// A Unix path that the kernel has no room for.
    #[error(
        "the socket name in '{0}' is too long: it has {1} bytes, and a Unix socket's name may have {max}",
        max = UNIX_NAME_MAX
    )]
    UnixNameTooLong(String, usize),
    /// The host has no address.
    #[error("cannot resolve host '{host}': {reason}")]
    Unresolved {
        /// The host's name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
}

/// `sun_path` has 108 bytes; one is the terminating or the leading zero.
const UNIX_NAME_MAX: usize = 107;

impl ServeAddress {
    /// The kind of server that serves this address.
    pub fn server_type(&self) -> ServerType {
        self.server_type
    }

    /// A TCP address from its parts; the host may be empty for every interface.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let place = Place::Inet { host: host.into(), port };
        Self { server_type: ServerType::Tcp, is_tls: false, place }
    }

    /// Whether connections are protected by TLS before their handler sees them.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether it asks for any free port, so that two that say the same are two.
    pub fn has_any_port(&self) -> bool {
        matches!(self.place, Place::Inet { port: 0, .. })
    }

    /// Whether both are for the same port, so that one may keep the other from being bound.
    pub fn has_port_of(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Inet { port, .. }, Place::Inet { port: others, .. }) => {
                self.server_type == other.server_type && port == others && *port != 0
            }
            _ => false,
        }
    }

    /// The socket addresses to try in turn. Several for a host name that has several.
    pub fn resolve(&self) -> Result<Vec<SocketAddress>, AddressError> {
        match &self.place {
            Place::Unix(name) => Ok(vec![name.clone().into()]),
            Place::Inet { host, port } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let unresolved = |reason: String| AddressError::Unresolved { host: host.to_owned(), reason };
                let addresses: Vec<SocketAddress> = (host, *port)
                    .to_socket_addrs()
                    .map_err(|error| unresolved(error.to_string()))?
                    .map(SocketAddress::Inet)
                    .collect();
                if addresses.is_empty() {
                    return Err(unresolved("it has no address".to_owned()));
                }
                Ok(addresses)
            }
        }
    }

    /// This address with what was really bound in place of what was asked for.
    pub(crate) fn with_bound(server_type: ServerType, is_tls: bool, bound: &SocketAddress) -> Self {
        let place = match bound {
            SocketAddress::Inet(address) => Place::Inet { host: host_of(address), port: address.port() },
            SocketAddress::Unix(name) => Place::Unix(name.clone()),
        };
        Self { server_type, is_tls, place }
    }
}

/// The address without its port, scope id included, in the form that [`ServeAddress`] prints and resolves.
fn host_of(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// Accepts `tcp://HOST:PORT`, `udp://HOST:PORT`, and for `unix` and `unixgram` an absolute path
/// (`unix:///run/upper.sock`) or an abstract name (`unix://@upper`); `tls` and `tls+unix` are `tcp` and `unix` with TLS.
///
/// HOST may be a name, an IPv4 address, an IPv6 address in brackets, or empty for every IPv4 interface.
impl FromStr for ServeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // All that errors show of it.
        let shown = without_password(text);
        let Some((scheme, rest)) = text.split_once("://") else { return Err(AddressError::NoScheme(shown)) };
        let schemes = ServerType::ALL
            .into_iter()
            .flat_map(|known| [(Some(known.scheme()), known, false), (known.tls_scheme(), known, true)]);
        let known = schemes
            .filter_map(|(known, server_type, is_tls)| Some((known?, server_type, is_tls)))
            .find(|(known, ..)| *known == scheme);
        let Some((scheme, server_type, is_tls)) = known else {
            return Err(match scheme {
                "dtls" | "tls+udp" | "tls+unixgram" => AddressError::TlsDatagrams(shown),
                _ => AddressError::UnknownScheme { address: shown, scheme: scheme.to_owned() },
            });
        };
        let place = match server_type {
            ServerType::Tcp | ServerType::Udp => parse_inet(shown, rest, scheme)?,
            ServerType::UnixStream | ServerType::UnixDatagram => {
                Place::Unix(parse_unix(shown, rest, scheme)?)
            }
        };
        Ok(Self { server_type, is_tls, place })
    }
}

fn parse_inet(shown: String, rest: &str, scheme: &'static str) -> Result<Place, AddressError> {
    let Some((host, port)) = rest.rsplit_once(':') else { return Err(AddressError::Port(shown, scheme)) };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host,
        None if host.contains([':', '[', ']']) => {
            return Err(AddressError::Brackets(shown, scheme));
        }
        None => host,
    };
    if host.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(AddressError::Host(shown));
    }
    // `u16::from_str` takes a leading plus sign, which no address has.
    match port.parse() {
        Ok(port_number) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Place::Inet { host: host.to_owned(), port: port_number })
        }
        _ => Err(AddressError::Port(shown, scheme)),
    }
}

fn parse_unix(shown: String, rest: &str, scheme: &'static str) -> Result<UnixAddress, AddressError> {
    let (name, address) = match rest.strip_prefix('@') {
        Some(name) => (name, UnixAddress::Abstract(name.as_bytes().to_vec())),
        None => (rest, UnixAddress::Path(PathBuf::from(rest))),
    };
    let is_path = rest.starts_with('/');
    if name.is_empty() || name.contains('\0') || is_path == rest.starts_with('@') {
        return Err(AddressError::UnixName(shown, scheme));
    }
    if is_path && Path::new(rest).file_name().is_none() {
        return Err(AddressError::UnixName(shown, scheme));
    }
    if name.len() > UNIX_NAME_MAX {
        return Err(AddressError::UnixNameTooLong(shown, name.len()));
    }
    Ok(address)
}

impl fmt::Display for ServeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls_scheme = self.server_type.tls_scheme().filter(|_| self.is_tls);
        write!(f, "{}://", tls_scheme.unwrap_or(self.server_type.scheme()))?;
        match &self.place {
            Place::Inet { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Inet { host, port } => write!(f, "{host}:{port}"),
            Place::Unix(name) => name.fmt(f),
        }
    }
}

/// Any socket address that the kernel gave.
pub(crate) fn socket_address(address: &SockAddr) -> SocketAddress {
    if let Some(inet) = address.as_socket() {
        return inet.into();
    }
    if let Some(path) = address.as_pathname() {
        return UnixAddress::Path(path.to_owned()).into();
    }
    match address.as_abstract_namespace() {
        Some(name) => UnixAddress::Abstract(name.to_vec()).into(),
        None => UnixAddress::Unnamed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_prints_as_it_was_written() {
        for text in [
            "tcp://127.0.0.1:0",
            "tcp://localhost:65535",
            "tcp://:80",
            "tcp://[::1]:7",
            "tcp://[fe80::1%2]:7",
            "udp://[::]:53",
            "unix:///run/x.sock",
            "unix://@name",
            "unixgram:///dev/log",
            "tls://[::1]:443",
            "tls+unix:///run/x.sock",
            "tls+unix://@name",
        ] {
            assert_eq!(text.parse::<ServeAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("", "no scheme"),
            ("127.0.0.1:80", "no scheme"),
            ("http://x:80", "unknown scheme 'http'"),
            ("tcp://localhost", "no valid port"),
            ("tcp://localhost:", "no valid port"),
            ("tcp://localhost:65536", "no valid port"),
            ("tcp://localhost:+1", "no valid port"),
            ("tcp://::1:80", "brackets"),
            ("tcp://local host:80", "a space"),
            ("tcp://local\n:80", r"local\n"),
            ("unix://relative", "names no socket"),
            ("unix://", "names no socket"),
            ("unix:///", "names no socket"),
            ("unixgram://@", "names no socket"),
            ("tls://localhost", "write tls://HOST:PORT"),
            ("tls+unix://relative", "write tls+unix:///"),
            ("dtls://localhost:1", "does not protect"),
            ("tls+udp://localhost:1", "does not protect"),
            ("tls+unixgram:///x", "does not protect"),
        ] {
            let error = text.parse::<ServeAddress>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let long = format!("unix:///{}", "x".repeat(UNIX_NAME_MAX));
        assert!(long.parse::<ServeAddress>().unwrap_err().to_string().contains("108 bytes"));
    }

    #[test]
    fn names_that_clients_choose_are_escaped() {
        let name = UnixAddress::Abstract(b"a\n\x1b[31m".to_vec());
        assert_eq!(name.to_string(), r"@a\n\x1b[31m");
    }
}
