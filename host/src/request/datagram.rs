//! A packet, and the way back to who sent it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::datagram_socket::{DatagramSocket, LocalAddress};
use super::wait::Patience;
use crate::address::{SocketAddress, UnixAddress};
use crate::taken::VolumeCount;

#[derive(Debug)]
pub(crate) struct Datagram {
    socket: Arc<DatagramSocket>,
    /// The address that the packet was sent to, where the socket has several; a reply leaves from there.
    local_address: Option<LocalAddress>,
    packet: Vec<u8>,
    /// How much of the packet `recv` has given out.
    position: Mutex<usize>,
    reply: Mutex<Reply>,
    pub(super) volume: VolumeCount,
}

/// What the handler writes to `wfile`: it becomes one datagram when the request ends.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) data: Vec<u8>,
    /// Written to or flushed; otherwise nothing is sent.
    pub(crate) is_wanted: bool,
}

impl Datagram {
    pub(crate) fn new(
        socket: Arc<DatagramSocket>,
        packet: Vec<u8>,
        local_address: Option<LocalAddress>,
    ) -> Self {
        let (position, reply, volume) = Default::default();
        Self { socket, local_address, packet, position, reply, volume }
    }

    pub(super) fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// What another process needs to serve it.
    pub(crate) fn parts(&self) -> (&[u8], Option<LocalAddress>) {
        (&self.packet, self.local_address)
    }

    /// The address that the packet was sent to, if the socket, bound to `bound`, has several.
    pub(super) fn local_address(&self, bound: &SocketAddress) -> Option<SocketAddr> {
        let SocketAddress::Inet(bound) = bound else { return None };
        let ip = match self.local_address? {
            LocalAddress::V4(v4) => IpAddr::from(v4),
            LocalAddress::V6(v6, _) => IpAddr::from(v6),
        };
        Some(SocketAddr::new(ip, bound.port()))
    }

    pub(crate) fn recv(&self, max: usize) -> Vec<u8> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = &self.packet[*position..];
        let data = &unread[..unread.len().min(max)];
        *position += data.len();
        self.volume.receive(data.len());
        data.to_vec()
    }

    pub(super) fn rewind(&self) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        // What is read anew counts once.
        self.volume.take();
    }

    pub(crate) fn reply(&self) -> MutexGuard<'_, Reply> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `NotConnected` if the address has no name to reply to.
    pub(crate) async fn send(&self, data: &[u8], to: &SocketAddress, patience: Patience) -> io::Result<()> {
        if let SocketAddress::Unix(UnixAddress::Unnamed) = to {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.socket.send_to(data, to, self.local_address, patience).await?;
        self.volume.send(data.len());
        Ok(())
    }
}
