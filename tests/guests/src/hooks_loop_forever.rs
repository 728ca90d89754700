//! Loops in every hook but `verify_request`. Fails if the data begin with `fail`, and echoes them otherwise.

use plugsock_sdk::{Failure, HandlerError, Request, RequestHandler, Result, ServerHooks, ServerInfo, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let data = request.recv(8192)?;
        if data.starts_with(b"fail") {
            return Err(HandlerError::new("as the client wished"));
        }
        Ok(request.send(&data)?)
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
