//! Refuses every request.

use plugsock_sdk::{Request, RequestHandler, Result, ServerHooks, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        Ok(request.send(b"handle\n")?)
    }
}

impl ServerHooks for Guest {
    fn verify_request(_: &Request) -> bool {
        false
    }
}

export!(Guest: RequestHandler + ServerHooks);
