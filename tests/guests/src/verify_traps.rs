//! Traps before it has decided about each request with an odd number, and echoes the others.

use plugsock_sdk::{Request, RequestHandler, Result, ServerHooks, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        loop {
            let data = request.recv(8192)?;
            if data.is_empty() {
                return Ok(());
            }
            request.send(&data)?;
        }
    }
}

impl ServerHooks for Guest {
    fn verify_request(request: &Request) -> bool {
        assert!(request.id().is_multiple_of(2), "it was not to be asked");
        true
    }
}

export!(Guest: RequestHandler + ServerHooks);
