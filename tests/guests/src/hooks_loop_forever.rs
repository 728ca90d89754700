//! Loops in every hook but `verify_request`. Echoes what comes, and fails if nothing does.

use plugsock_sdk::{Failure, HandlerError, Request, RequestHandler, Result, ServerHooks, ServerInfo, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        match request.recv(8192)? {
            data if data.is_empty() => Err(HandlerError::new("nothing came")),
            data => Ok(request.send(&data)?),
        }
    }
}

impl ServerHooks for Guest {
    fn handle_error(_: &ServerInfo, _: &Failure) {
        endless();
    }

    fn handle_timeout(_: &ServerInfo) {
        endless();
    }

    fn service_actions(_: &ServerInfo) {
        endless();
    }
}

export!(Guest: RequestHandler + ServerHooks);

fn endless() {
    loop {
        std::hint::black_box(());
    }
}
