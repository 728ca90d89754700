//! Receives packets and sends replies, for both datagram server types.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, UnixAddr, cmsg_space, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix};
use serde::{Deserialize, Serialize};
use socket2::{SockAddr, Socket};
use tokio::io::Interest;

use super::wait::{Patience, Waitable};
use super::{Datagram, Request, Transport, UnixCredentials};
use crate::address::{ServerType, SocketAddress, UnixAddress};

/// The largest datagram there is: 16 bits of length, and Unix sockets stay below it by default.
const PACKET_MAX: usize = 65_535;

#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: Waitable<Socket>,
    server_type: ServerType,
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

/// What the kernel says of a packet.
struct Envelope {
    /// Its whole length, also where the buffer was shorter.
    length: usize,
    client_address: SocketAddress,
    credentials: Option<UnixCredentials>,
    local_address: Option<LocalAddress>,
}

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
        Ok(Self { socket: Waitable::non_blocking(socket), server_type, buffer: Mutex::default() })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SockAddr> {
        self.socket.socket().local_addr()
    }

    /// The next packet; never blocks.
    pub(crate) fn try_recv(self: &Arc<Self>, max_packet_size: usize) -> io::Result<Received> {
        let mut packet = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        packet.resize(max_packet_size.min(PACKET_MAX), 0);
        let Envelope { length, client_address, credentials, local_address } = match self.server_type {
            ServerType::UnixDatagram => self.recv_unix(&mut packet)?,
            _ => self.recv_inet(&mut packet)?,
        };
        if length > packet.len() {
            return Ok(Received::TooLarge { client_address, length });
        }
        let datagram = Datagram::new(self.clone(), packet[..length].to_vec(), local_address);
        Ok(Received::Packet(Request::new(client_address, credentials, Transport::Datagram(datagram))))
    }

    /// nix, since rustix knows no `IP_PKTINFO`.
    fn recv_inet(&self, packet: &mut [u8]) -> io::Result<Envelope> {
        // With MSG_TRUNC the kernel reports a packet's whole length, also where it does not fit.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let mut control = [0; cmsg_space::<libc::in6_pktinfo>()];
        let fd = self.socket.socket().as_raw_fd();
        let mut slices = [IoSliceMut::new(packet)];
        let received = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags)?;
        let local_address = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(LocalAddress::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(LocalAddress::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr), info.ipi6_ifindex))
            }
            _ => None,
        });
        let address = received.address.as_ref();
        let v4 = address.and_then(SockaddrStorage::as_sockaddr_in).map(|v4| SocketAddr::from(*v4));
        let v6 = address.and_then(SockaddrStorage::as_sockaddr_in6).map(|v6| SocketAddr::from(*v6));
        let client_address = v4.or(v6).ok_or(io::ErrorKind::InvalidData)?.into();
        Ok(Envelope { length: received.bytes, client_address, credentials: None, local_address })
    }

    /// rustix, since nix takes an address without a name for whatever its memory held.
    fn recv_unix(&self, packet: &mut [u8]) -> io::Result<Envelope> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let received =
            rustix::net::recvmsg(self.socket.socket(), &mut [IoSliceMut::new(packet)], &mut control, flags)?;
        let credentials = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(from) => Some(UnixCredentials {
                pid: u32::try_from(from.pid.as_raw_pid()).ok(),
                uid: from.uid.as_raw(),
                gid: from.gid.as_raw(),
            }),
            _ => None,
        });
        let address = received.address.and_then(|address| SocketAddrUnix::try_from(address).ok());
        let client_address = address.map_or(UnixAddress::Unnamed, |address| {
            match (address.path_bytes(), address.abstract_name()) {
                (Some(path), _) => UnixAddress::Path(OsStr::from_bytes(path).into()),
                (None, Some(name)) => UnixAddress::Abstract(name.to_vec()),
                (None, None) => UnixAddress::Unnamed,
            }
        });
        let client_address = client_address.into();
        Ok(Envelope { length: received.bytes, client_address, credentials, local_address: None })
    }

    /// Sends one datagram.
    pub(crate) async fn send_to(
        &self,
        data: &[u8],
        to: &SocketAddress,
        from: Option<LocalAddress>,
        patience: Patience,
    ) -> io::Result<()> {
        let send = |_| self.try_send_to(data, to, from);
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
