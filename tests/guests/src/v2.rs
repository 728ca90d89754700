//! Answers `v2`, to be told from other handlers after a swap.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        Ok(request.send(b"v2\n")?)
    }
}

export!(Guest: RequestHandler);
