//! `rfile`: the request's data as a buffered reader.

use std::io::{self, BufRead, Cursor, Read};

use crate::{Request, tls};

/// The most that one `recv` is asked for, however much a reader wants: the host has to hold it, too.
const MOST: usize = 1024 * 1024;

/// What the client sends, as a buffered reader. Of a datagram server it is the packet.
pub struct Rfile<'a> {
    request: &'a Request,
    /// What was received and not read yet; outlives the call into the component.
    buffer: &'a mut Cursor<Vec<u8>>,
    /// `RBUFSIZE`
    size: usize,
}

impl<'a> Rfile<'a> {
    pub(crate) fn new(request: &'a Request, buffer: &'a mut Cursor<Vec<u8>>, size: usize) -> Self {
        Rfile { request, buffer, size }
    }

    /// What was received and not read yet.
    pub fn buffer(&self) -> &[u8] {
        let start = (self.buffer.position() as usize).min(self.buffer.get_ref().len());
        &self.buffer.get_ref()[start..]
    }

    pub(crate) fn clear(&mut self) {
        *self.buffer = Cursor::default();
    }

    /// What is buffered; if that is nothing, what comes next, and `wanted` bytes of it at once.
    fn fill(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.buffer.fill_buf()?.is_empty() {
            let max = wanted.max(self.size).min(MOST);
            let received = self.request.recv(max as u32);
            *self.buffer = Cursor::new(received.map_err(|error| tls::failed(self.request, error))?);
        }
        self.buffer.fill_buf()
    }
}

impl Read for Rfile<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let count = self.fill(buf.len())?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Rfile<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill(1)
    }

    fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }
}
