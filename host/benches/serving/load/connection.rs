//! A client's connection, protected or not; it never blocks.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use anyhow::ensure;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustls::{ClientConnection, HandshakeKind};

use super::http;
use crate::BLOCK;

pub enum Connection {
    Plain(OwnedFd),
    /// With what has come of an answer.
    Http(OwnedFd, Vec<u8>),
    Tls(Box<Tls>),
}

/// TLS on a socket.
pub struct Tls {
    socket: OwnedFd,
    session: ClientConnection,
}

thread_local! {
    /// What comes from a socket before it is decrypted: a read of much costs less than rustls's own of little.
    static INCOMING: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
}

impl Connection {
    pub fn tls(socket: OwnedFd, mut session: ClientConnection) -> Self {
        // An operation's message is taken whole.
        session.set_buffer_limit(None);
        Self::Tls(Box::new(Tls { socket, session }))
    }

    pub fn socket(&self) -> &OwnedFd {
        match self {
            Self::Plain(socket) | Self::Http(socket, _) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// Sends as much as it can; what was taken but not sent goes out with the next call of anything.
    pub fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => Ok(send(socket, data, SendFlags::NOSIGNAL)?),
            Self::Http(socket, _) => {
                let request = http::request(data);
                match send(socket, &request, SendFlags::NOSIGNAL)? {
                    sent if sent == request.len() => Ok(data.len()),
                    _ => Err(io::Error::other("a request was sent in parts")),
                }
            }
            Self::Tls(tls) => {
                let taken = tls.session.writer().write(data)?;
                tls.flush().map(|()| taken)
            }
        }
    }

    /// Receives all that is there, unless the buffer is too short for it; nothing at the end.
    pub fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => Ok(recv(socket, buffer, RecvFlags::empty())?.0),
            Self::Http(socket, answer) => match http::receive(&mut Wire(socket), answer)? {
                Some(body) => body.as_slice().read(buffer),
                None => Ok(0),
            },
            Self::Tls(tls) => INCOMING.with_borrow_mut(|incoming| tls.recv(buffer, incoming)),
        }
    }

    /// Says that nothing more comes.
    pub fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) | Self::Http(socket, _) => Ok(shutdown(socket, Shutdown::Write)?),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                tls.flush()
            }
        }
    }

    /// Whether its handshake was of the kind that is measured.
    pub fn check(&self, is_resumed: bool) -> anyhow::Result<()> {
        if let Self::Tls(tls) = self {
            let expected = if is_resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
            let kind = tls.session.handshake_kind();
            ensure!(kind == Some(expected), "the handshake was {kind:?}, not {expected:?}");
        }
        Ok(())
    }
}

impl Tls {
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Wire(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                written => written?,
            };
        }
        Ok(())
    }

    fn recv(&mut self, buffer: &mut [u8], incoming: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        let mut length = 0;
        loop {
            let count = match recv(&self.socket, &mut *incoming, RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(_) if length > 0 => return Ok(length),
                Err(error) => return Err(error.into()),
            };
            let mut rest = &incoming[..count];
            loop {
                self.session.read_tls(&mut rest)?;
                self.session.process_new_packets().map_err(io::Error::other)?;
                match read_all(&mut self.session.reader(), &mut buffer[length..]) {
                    Ok(received) => return Ok(length + received),
                    Err((received, error)) if error.kind() == io::ErrorKind::WouldBlock => length += received,
                    Err((_, error)) => return Err(error),
                }
                if rest.is_empty() {
                    break;
                }
            }
            self.flush()?;
            // There was no more.
            if count < incoming.len() {
                return if length > 0 { Ok(length) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
        }
    }
}

/// Until the end, or the buffer is full; an error with what came before it.
fn read_all(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut length = 0;
    loop {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => return Ok(length),
            Ok(count) => length += count,
            Err(error) => return Err((length, error)),
        }
    }
}

struct Wire<'a>(&'a OwnedFd);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::empty())?.0)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, data, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, data)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
