//! Answers with the same bytes: the echo protocol (RFC 862), on streams and datagrams.

use plugsock_sdk::{Request, RequestHandler, Result, export};

/// One `recv` at most: larger ones are no faster, and the memory counts for every open connection.
const CHUNK: u32 = 64 * 1024;

#[derive(Default)]
struct Echo;

impl RequestHandler for Echo {
    fn handle(&mut self, request: &Request) -> Result {
        let mut data = request.recv(CHUNK)?;
        // Only an empty or a full first chunk can be a packet that needs care, so only then is the host asked.
        if (data.is_empty() || data.len() == CHUNK as usize) && request.server().server_type.is_datagram() {
            data.extend(request.recv(u32::MAX)?);
            return Ok(request.send(&data)?);
        }
        while !data.is_empty() {
            request.send(&data)?;
            data = request.recv(CHUNK)?;
        }
        Ok(())
    }
}

export!(Echo: RequestHandler);
