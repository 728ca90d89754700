//! `wfile`: a writer to the client.

use std::fmt;
use std::io::{self, Write};
use std::mem;

use crate::{Error, Request, tls};

/// A writer to the client.
///
/// On a stream, what is written goes out at once, or with `WBUFSIZE` when that much has come together, on
/// [`flush`](Write::flush) and after `finish`. On a datagram server everything that is written goes out
/// after `finish` as one datagram: nothing goes out if nothing was written, except that `flush` asks for a
/// reply even if it is empty.
pub struct Wfile<'a> {
    request: &'a Request,
    output: &'a mut Output,
    /// `WBUFSIZE`
    size: usize,
}

/// What was written and not sent yet; outlives the call into the component.
#[derive(Default)]
pub enum Output {
    /// Nothing was written yet: the handler may never write, so the host isn't asked what server this is.
    #[default]
    Unused,
    /// Less than `WBUFSIZE`.
    Stream(Vec<u8>),
    /// The reply.
    Datagram { packet: Vec<u8>, flushed: bool },
}

impl Output {
    pub(crate) fn datagram() -> Self {
        Output::Datagram { packet: Vec::new(), flushed: false }
    }
}

impl<'a> Wfile<'a> {
    pub(crate) fn new(request: &'a Request, output: &'a mut Output, size: usize) -> Self {
        Wfile { request, output, size }
    }

    /// Sends what is left, once the handler has finished.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match mem::take(self.output) {
            Output::Datagram { packet, flushed } if flushed || !packet.is_empty() => {
                Ok(self.request.send(&packet)?)
            }
            Output::Stream(data) if !data.is_empty() => Ok(self.request.send(&data)?),
            _ => Ok(()),
        }
    }

    /// Sends what a stream holds.
    pub(crate) fn send_held(&mut self) -> Result<(), Error> {
        match self.output {
            Output::Stream(held) if !held.is_empty() => self.request.send(&mem::take(held)),
            _ => Ok(()),
        }
    }

    fn output(&mut self) -> &mut Output {
        if let Output::Unused = self.output {
            *self.output = if self.request.server().server_type.is_datagram() {
                Output::datagram()
            } else {
                Output::Stream(Vec::new())
            };
        }
        self.output
    }
}

impl Write for Wfile<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let (request, size) = (self.request, self.size);
        let send = |data: &[u8]| request.send(data).map_err(|error| tls::failed(request, error));
        match self.output() {
            Output::Datagram { packet, .. } => packet.extend_from_slice(data),
            Output::Stream(buffer) => {
                if !buffer.is_empty() && buffer.len() + data.len() > size {
                    send(&mem::take(buffer))?;
                }
                if data.len() < size {
                    buffer.extend_from_slice(data);
                } else if !data.is_empty() {
                    send(data)?;
                }
            }
            Output::Unused => unreachable!("`output` has settled it"),
        }
        Ok(data.len())
    }

    /// One `write!` is one write, however many pieces it is formatted from: without a buffer, each piece
    /// would be a TCP segment.
    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        match arguments.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => self.write_all(arguments.to_string().as_bytes()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Output::Datagram { flushed, .. } = self.output() {
            *flushed = true;
        }
        self.send_held().map_err(|error| tls::failed(self.request, error))
    }
}
