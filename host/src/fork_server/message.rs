//! What the host and its fork server say to each other.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::SocketAddress;
use crate::error::RequestError;
use crate::listener::{DatagramSocket, LocalAddress};
use crate::request::{Datagram, MinRate, Request, Stream, Transport, UnixCredentials};
use crate::sandbox::{Grants, Limits};
use crate::server_info::ServerInfo;

/// From the host to the fork server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    /// Comes first; beside it the precompiled handler, a datagram server's socket, and the version's drain.
    Setup(Box<Setup>),
    /// Fork for this; beside it a stream's socket.
    Serve(WireRequest),
    /// The server closes and waits no longer.
    KillAll,
}

/// What the fork server serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) info: ServerInfo,
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) generation: u64,
    /// Whether a datagram server's socket came along.
    pub(crate) has_datagram_socket: bool,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireRequest {
    pub(crate) id: u64,
    pub(crate) client_address: SocketAddress,
    pub(crate) credentials: Option<UnixCredentials>,
    pub(crate) transport: WireTransport,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum WireTransport {
    Stream,
    Datagram { packet: Vec<u8>, local_address: Option<LocalAddress> },
}

impl WireRequest {
    pub(crate) fn of(request: &Request) -> Self {
        let transport = match &request.transport {
            Transport::Stream(_) => WireTransport::Stream,
            Transport::Datagram(datagram) => {
                let (packet, local_address) = datagram.parts();
                WireTransport::Datagram { packet: packet.to_vec(), local_address }
            }
        };
        let client_address = request.client_address().clone();
        Self { id: request.id(), client_address, credentials: request.unix_credentials(), transport }
    }

    /// The same request on the other side: with the socket that came along, or the server's own.
    pub(super) fn into_request(
        self,
        socket: Option<OwnedFd>,
        datagram_socket: Option<&Arc<DatagramSocket>>,
        min_rate: Option<MinRate>,
    ) -> io::Result<Request> {
        let transport = match self.transport {
            WireTransport::Stream => {
                let socket = socket.ok_or_else(|| io::Error::other("the request came without its socket"))?;
                Transport::Stream(Stream::new(socket.into(), None, min_rate))
            }
            WireTransport::Datagram { packet, local_address } => {
                let socket =
                    datagram_socket.ok_or_else(|| io::Error::other("there is no socket to reply by"))?;
                Transport::Datagram(Datagram::new(socket.clone(), packet, local_address))
            }
        };
        Ok(Request::received(self.id, self.client_address, self.credentials, transport))
    }
}

/// From the fork server, and its children, to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromServer {
    /// Whether it can serve.
    Ready(Result<(), String>),
    /// It is about to fork for this request, and nobody else may serve it any more.
    Taken(u64),
    /// A child's first word: this request is its own, whatever becomes of the fork server.
    Begun(u64),
    /// There is no process for this request, and why.
    Refused(u64, String),
    /// A child's word on how its request went.
    Outcome(u64, Result<(), RequestError>),
    /// The child of this request has exited and is reaped.
    Exited { id: u64, status: Option<i32>, signal: Option<i32> },
}
