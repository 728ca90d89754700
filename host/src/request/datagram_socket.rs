//! Receives packets and sends replies, for both datagram server types.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrStorage, TimestampingFlag, sendmsg, setsockopt, sockopt,
};
use rustix::net::{SocketAddrUnix, send, sendto};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket};
use tokio::io::Interest;

use super::recvmsg::{Message, recvmsg};
use super::wait::{MayBlock, Patience, Waitable};
use super::{Datagram, Request, Transport};
use crate::address::{ServerType, SocketAddress, UnixAddress, socket_address};

/// The largest datagram there is: 16 bits of length, and Unix sockets stay below it by default.
const PACKET_MAX: usize = 65_535;

#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: Waitable<Socket>,
    server_type: ServerType,
    /// Whether it is one end of a pair: all that is sent goes to the other end, whatever address is said.
    is_paired: bool,
    /// Where packets are received before they are copied at their true size. Only the accepting thread
    /// takes the lock.
    buffer: Mutex<Vec<u8>>,
}

/// Which of a wildcard socket's addresses a packet was sent to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum LocalAddress {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u32),
}

impl LocalAddress {
    /// The same as an address that a reply can leave from. A group or a network's broadcast address is none: then the
    /// kernel is to choose among those of the interface, which for IPv4 in IPv6 is said in its own way.
    fn as_source(self) -> Option<Self> {
        let is_no_source = |v4: Ipv4Addr| v4.is_multicast() || v4.is_broadcast();
        match self {
            Self::V4(v4) => (!is_no_source(v4)).then_some(self),
            Self::V6(v6, interface) => Some(match v6.to_ipv4_mapped() {
                Some(v4) if is_no_source(v4) => Self::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), interface),
                None if v6.is_multicast() => Self::V6(Ipv6Addr::UNSPECIFIED, interface),
                _ => self,
            }),
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "there is one at a time, and most carry a request")]
pub(crate) enum Received {
    Packet(Request),
    TooLarge { client_address: SocketAddress, length: usize },
}

impl DatagramSocket {
    pub(crate) fn new(socket: Socket, server_type: ServerType) -> io::Result<Self> {
        if server_type == ServerType::UnixDatagram {
            socket.set_passcred(true)?;
        }
        // Bound to every address, it has the kernel tell which one each packet was sent to: the reply must
        // come from there.
        match socket.local_addr()?.as_socket() {
            Some(SocketAddr::V4(v4)) if v4.ip().is_unspecified() => {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            Some(SocketAddr::V6(v6)) if v6.ip().is_unspecified() => {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
            _ => {}
        }
        do_without_errors(&socket)?;
        Ok(Self {
            socket: Waitable::non_blocking(socket),
            server_type,
            is_paired: false,
            buffer: Mutex::default(),
        })
    }

    /// A socket that reaches nobody but who has the other end, which is the second; neither has a name.
    pub(crate) fn pair() -> io::Result<(Self, UnixDatagram)> {
        let (socket, other_end) = UnixDatagram::pair()?;
        Ok((Self { is_paired: true, ..Self::new(socket.into(), ServerType::UnixDatagram)? }, other_end))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SockAddr> {
        self.socket.socket().local_addr()
    }

    /// The next packet; never blocks.
    pub(crate) fn try_recv(self: &Arc<Self>, max_packet_size: usize) -> io::Result<Received> {
        let mut packet = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        packet.resize(max_packet_size.min(PACKET_MAX), 0);
        let message = recvmsg(self.socket.socket(), &mut packet)?;
        let Message { length, client_address, credentials, local_address } = message;
        let client_address = socket_address(&client_address);
        if length > packet.len() {
            return Ok(Received::TooLarge { client_address, length });
        }
        let datagram = Datagram::new(self.clone(), packet[..length].to_vec(), local_address);
        Ok(Received::Packet(Request::new(client_address, credentials, Transport::Datagram(datagram))))
    }

    /// Sends one datagram.
    pub(crate) async fn send_to(
        &self,
        data: &[u8],
        to: &SocketAddress,
        from: Option<LocalAddress>,
        patience: Patience,
    ) -> io::Result<()> {
        let from = from.and_then(LocalAddress::as_source);
        // The kernel alone knows a network's broadcast address, and that an address has gone since.
        let send = |_| match self.try_send_to(data, to, from) {
            Err(error) if from.is_some() && is_of_source(&error) => self.try_send_to(data, to, None),
            sent => sent,
        };
        self.socket.until_done(Interest::WRITABLE, patience, send).await
    }

    fn try_send_to(&self, data: &[u8], to: &SocketAddress, from: Option<LocalAddress>) -> io::Result<()> {
        let socket = self.socket.socket();
        let flags = MayBlock(false).send_flags();
        let sent = match (to, from) {
            _ if self.is_paired => send(socket, data, flags)?,
            (SocketAddress::Inet(to), None) => sendto(socket, data, flags, to)?,
            (SocketAddress::Inet(to), Some(from)) => send_from(socket, data, *to, from)?,
            // Names as long as the kernel has them, without an end.
            (SocketAddress::Unix(UnixAddress::Path(path)), _) => {
                sendto(socket, data, flags, &SocketAddrUnix::new(&**path)?)?
            }
            (SocketAddress::Unix(UnixAddress::Abstract(name)), _) => {
                sendto(socket, data, flags, &SocketAddrUnix::new_abstract_name(name)?)?
            }
            (SocketAddress::Unix(UnixAddress::Unnamed), _) => return Err(io::ErrorKind::NotConnected.into()),
        };
        debug_assert_eq!(sent, data.len(), "a {:?} datagram is sent whole or not at all", self.server_type);
        Ok(())
    }
}

/// Sends a datagram from one of a wildcard socket's addresses.
fn send_from(socket: &Socket, data: &[u8], to: SocketAddr, from: LocalAddress) -> nix::Result<usize> {
    let (v4, v6);
    let source = match from {
        LocalAddress::V4(address) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        LocalAddress::V6(address, interface) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: interface,
            };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(data)], &[source], flags, Some(&SockaddrStorage::from(to)))
}

/// Whether an address to send from may be why a packet was not sent.
fn is_of_source(error: &io::Error) -> bool {
    let reason = error.raw_os_error().map(Errno::from_raw);
    matches!(reason, Some(Errno::EINVAL | Errno::EADDRNOTAVAIL | Errno::ENETUNREACH))
}

/// Keeps a socket without its queue of errors and of times of what was sent. Whoever made it may have asked for these;
/// nobody reads them here, and as long as there are any the socket never counts as idle.
fn do_without_errors(socket: &Socket) -> io::Result<()> {
    let domain = socket.domain()?;
    if domain == Domain::UNIX {
        return Ok(());
    }
    setsockopt(socket, sockopt::Timestamping, &TimestampingFlag::empty())?;
    // These empty the queue as well.
    if domain == Domain::IPV6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &false)?;
    }
    Ok(setsockopt(socket, sockopt::Ipv4RecvErr, &false)?)
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.socket().as_fd()
    }
}
