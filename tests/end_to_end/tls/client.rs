//! A client that speaks TLS, and says exactly how its connection ended.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use plugsock::ServeAddress;
use rustix::event::{PollFd, PollFlags, poll};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::Socket;

use crate::harness::certificates::{Ca, Certified};
use crate::harness::{PATIENCE, sockaddr};

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// What a client is made of.
#[derive(Clone)]
pub struct Settings {
    pub config: Arc<ClientConfig>,
    pub server_name: String,
}

impl Settings {
    /// That trusts `ca` and asks for `server_name`.
    pub fn new(ca: &Ca, version: &'static SupportedProtocolVersion, server_name: &str) -> Self {
        Self::with(ca, version, server_name, None)
    }

    /// With a certificate of its own, if it has one.
    pub fn with(
        ca: &Ca,
        version: &'static SupportedProtocolVersion,
        server_name: &str,
        certified: Option<&Certified>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certified {
            None => builder.with_no_client_auth(),
            Some(certified) => {
                builder.with_client_auth_cert(vec![certified.der()], certified.key_der()).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(16);
        Self { config: Arc::new(config), server_name: server_name.to_owned() }
    }

    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec());
        Arc::make_mut(&mut self.config).alpn_protocols = protocols.collect();
        self
    }
}

/// How the server's side of a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It said so.
    Said,
    /// Without a word.
    Cut,
    /// The client or the server broke it off.
    Failed(String),
}

/// What a client does when it has sent all.
#[derive(Clone, Copy, Debug)]
pub enum Close {
    /// Says so, and keeps its socket as it is.
    Says,
    /// Says so, and half-closes its socket.
    SaysAndHalfCloses,
    /// Half-closes its socket without a word.
    HalfCloses,
    /// Nothing: it waits for the server.
    Waits,
}

/// A connection, protected once something has gone over it.
pub struct TlsClient {
    pub connection: ClientConnection,
    pub socket: Socket,
}

impl TlsClient {
    pub fn connect(address: &ServeAddress, settings: &Settings) -> Self {
        Self::over(connect(address), settings)
    }

    /// After what a handler of `STARTTLS` waits for.
    pub fn start(address: &ServeAddress, settings: &Settings) -> Self {
        let socket = connect(address);
        (&socket).write_all(b"STARTTLS\n").unwrap();
        let mut answer = [0; 3];
        (&socket).read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"go\n");
        Self::over(socket, settings)
    }

    pub fn over(socket: Socket, Settings { config, server_name }: &Settings) -> Self {
        let server_name = ServerName::try_from(server_name.clone()).unwrap();
        Self { connection: ClientConnection::new(config.clone(), server_name).unwrap(), socket }
    }

    /// Does the handshake; in words if that fails.
    pub fn shake(&mut self) -> Result<(), String> {
        while self.connection.is_handshaking() {
            let done = self.connection.complete_io(&mut &self.socket);
            done.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub fn shaken(mut self) -> Self {
        self.shake().unwrap();
        self
    }

    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the server has shown.
    pub fn server_certificate(&self) -> CertificateDer<'static> {
        self.connection.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub fn send(&mut self, data: &[u8]) {
        rustls::Stream::new(&mut self.connection, &mut &self.socket).write_all(data).unwrap();
    }

    pub fn recv_exact(&mut self, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        rustls::Stream::new(&mut self.connection, &mut &self.socket).read_exact(&mut data).unwrap();
        data
    }

    /// Up to a line that is a dot, without it.
    pub fn recv_told(&mut self) -> String {
        let mut told = Vec::new();
        while !told.ends_with(b"\n.\n") {
            told.extend(self.recv_exact(1));
        }
        String::from_utf8(told[..told.len() - 2].to_vec()).unwrap()
    }

    /// Sends `data` and closes, while it receives to the end.
    pub fn exchange(&mut self, data: &[u8], close: Close) -> (Vec<u8>, End) {
        self.socket.set_nonblocking(true).unwrap();
        let (mut rest, mut received, mut is_closed) = (data, Vec::new(), false);
        loop {
            if !self.connection.is_handshaking() && !self.connection.wants_write() && !rest.is_empty() {
                let taken = self.connection.writer().write(rest).unwrap();
                rest = &rest[taken..];
            }
            let is_sent =
                rest.is_empty() && !self.connection.wants_write() && !self.connection.is_handshaking();
            if is_sent && !is_closed {
                is_closed = true;
                if matches!(close, Close::Says | Close::SaysAndHalfCloses) {
                    self.connection.send_close_notify();
                    let _ = self.connection.write_tls(&mut &self.socket);
                }
                if matches!(close, Close::HalfCloses | Close::SaysAndHalfCloses) {
                    self.socket.shutdown(Shutdown::Write).unwrap();
                }
            }
            if let Some(end) = self.step(&mut received) {
                return (received, end);
            }
        }
    }

    /// Sends and receives what the socket takes and has; how it ended, if it has.
    fn step(&mut self, received: &mut Vec<u8>) -> Option<End> {
        let out = if self.connection.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
        let patience = PATIENCE.try_into().unwrap();
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN | out)];
        assert_ne!(poll(&mut fds, Some(&patience)).unwrap(), 0, "the server says nothing");
        let revents = fds[0].revents();
        if revents.contains(PollFlags::OUT) {
            match self.connection.write_tls(&mut &self.socket) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Some(End::Failed(error.to_string()));
                }
                _ => {}
            }
        }
        if !(revents - PollFlags::OUT).is_empty() {
            match self.connection.read_tls(&mut &self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(End::Failed(error.to_string())),
                Ok(_) => {}
            }
            if let Err(error) = self.connection.process_new_packets() {
                let _ = self.connection.write_tls(&mut &self.socket);
                return Some(End::Failed(error.to_string()));
            }
            match self.connection.reader().read_to_end(received) {
                Ok(_) => return Some(End::Said),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Some(End::Cut),
                Err(error) => return Some(End::Failed(error.to_string())),
            }
        }
        None
    }
}

/// A socket that waits for no longer than [`PATIENCE`].
pub fn connect(address: &ServeAddress) -> Socket {
    let address = sockaddr(address);
    let socket = Socket::new(address.domain(), socket2::Type::STREAM, None).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&address).unwrap();
    socket
}

/// All that the server still sends, and whether it ended in order; waits for that.
pub fn rest(socket: &Socket) -> (Vec<u8>, bool) {
    let (mut data, mut socket) = (Vec::new(), socket);
    let ended = socket.read_to_end(&mut data);
    (data, ended.is_ok())
}
