//! Receives packets and sends replies, for both datagram server types.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, UnixAddr, cmsg_space,
    recvmsg, sendmsg,
};
use socket2::{SockAddr, Socket};
use tokio::io::Interest;

use crate::address::{ServerType, SocketAddress, UnixAddress};
use crate::request::{Datagram, Patience, Request, Transport, UnixCredentials, Waitable};

/// The largest datagram there is: 16 bits of length, and Unix sockets stay below it by default.
const PACKET_MAX: usize = 65_535;

#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: Waitable<Socket>,
    server_type: ServerType,
    /// Where packets are received before they are copied at their true size. Only the accepting thread
    /// takes the lock.
    buffer: Mutex<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    packet: Vec<u8>,
    control: Vec<u8>,
}

/// Which of a wildcard socket's addresses a packet was sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LocalAddress {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u32),
}

pub(super) enum Received {
    Packet(Request),
    TooLarge { client_address: SocketAddress, length: usize },
}

impl DatagramSocket {
    pub(super) fn new(socket: Socket, server_type: ServerType) -> io::Result<Self> {
        if server_type == ServerType::UnixDatagram {
            socket.set_passcred(true)?;
        }
        let control = cmsg_space::<libc::in6_pktinfo>() + cmsg_space::<libc::ucred>();
        let buffer = Mutex::new(Buffer { packet: Vec::new(), control: vec![0; control] });
        Ok(Self { socket: Waitable::new(socket), server_type, buffer })
    }

    pub(super) fn local_addr(&self) -> io::Result<SockAddr> {
        self.socket.socket().local_addr()
    }

    /// The next packet; never blocks.
    pub(super) fn try_recv(self: &Arc<Self>, max_packet_size: usize) -> io::Result<Received> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let Buffer { packet, control } = &mut *buffer;
        packet.resize(max_packet_size.min(PACKET_MAX), 0);
        // With MSG_TRUNC the kernel reports a packet's whole length, also where it does not fit.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let fd = self.socket.socket().as_raw_fd();
        let mut slices = [IoSliceMut::new(packet)];
        let received = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(control), flags)?;
        let length = received.bytes;
        let client_address = client_address(received.address.as_ref());
        let (mut credentials, mut local_address) = (None, None);
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::ScmCredentials(from) => {
                    let pid = u32::try_from(from.pid()).ok().filter(|pid| *pid != 0);
                    credentials = Some(UnixCredentials { pid, uid: from.uid(), gid: from.gid() });
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local_address =
                        Some(LocalAddress::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    local_address = Some(LocalAddress::V6(address, info.ipi6_ifindex));
                }
                _ => {}
            }
        }
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
        let send = || self.try_send_to(data, to, from);
        self.socket.until_done(Interest::WRITABLE, patience, send).await
    }

    fn try_send_to(&self, data: &[u8], to: &SocketAddress, from: Option<LocalAddress>) -> io::Result<()> {
        let fd = self.socket.socket().as_raw_fd();
        let slices = [IoSlice::new(data)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = match to {
            SocketAddress::Inet(to) => {
                let to = SockaddrStorage::from(*to);
                match from {
                    None => sendmsg(fd, &slices, &[], flags, Some(&to))?,
                    Some(LocalAddress::V4(address)) => {
                        let info = libc::in_pktinfo {
                            ipi_ifindex: 0,
                            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                            ipi_addr: libc::in_addr { s_addr: 0 },
                        };
                        sendmsg(fd, &slices, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&to))?
                    }
                    Some(LocalAddress::V6(address, interface)) => {
                        let info = libc::in6_pktinfo {
                            ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                            ipi6_ifindex: interface,
                        };
                        sendmsg(fd, &slices, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&to))?
                    }
                }
            }
            SocketAddress::Unix(name) => {
                let to = match name {
                    UnixAddress::Path(path) => UnixAddr::new(path)?,
                    UnixAddress::Abstract(name) => UnixAddr::new_abstract(name)?,
                    UnixAddress::Unnamed => return Err(io::ErrorKind::NotConnected.into()),
                };
                sendmsg(fd, &slices, &[], flags, Some(&to))?
            }
        };
        debug_assert_eq!(sent, data.len(), "a {:?} datagram is sent whole or not at all", self.server_type);
        Ok(())
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.socket().as_fd()
    }
}

fn client_address(address: Option<&SockaddrStorage>) -> SocketAddress {
    // A Unix sender that was never bound has no address at all.
    let Some(address) = address else { return UnixAddress::Unnamed.into() };
    if let Some(v4) = address.as_sockaddr_in() {
        return std::net::SocketAddr::from(*v4).into();
    }
    if let Some(v6) = address.as_sockaddr_in6() {
        return std::net::SocketAddr::from(*v6).into();
    }
    debug_assert_eq!(address.family(), Some(nix::sys::socket::AddressFamily::Unix));
    let unix = address.as_unix_addr();
    if let Some(path) = unix.and_then(UnixAddr::path) {
        return UnixAddress::Path(path.to_owned()).into();
    }
    match unix.and_then(UnixAddr::as_abstract) {
        Some(name) => UnixAddress::Abstract(name.to_vec()).into(),
        None => UnixAddress::Unnamed.into(),
    }
}
