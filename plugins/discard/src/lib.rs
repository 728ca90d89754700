//! Throws away what it is sent: the discard protocol (RFC 863), on streams and datagrams.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Discard;

impl RequestHandler for Discard {
    fn handle(&mut self, request: &Request) -> Result {
        while !request.recv(64 * 1024)?.is_empty() {}
        Ok(())
    }
}

export!(Discard: RequestHandler);
