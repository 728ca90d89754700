//! Has every hook: refuses datagrams that begin with `refuse`, and prints which other hook was called.
//! Fails if the data begin with `fail`, and echoes them otherwise.

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
    fn verify_request(request: &Request) -> bool {
        let datagram = request.server().server_type.is_datagram();
        !(datagram && request.recv(6).is_ok_and(|data| data == b"refuse"))
    }

    fn handle_error(_: &ServerInfo, failure: &Failure) {
        println!("handle_error: {} {}: {}", failure.phase, failure.client_address, failure.message);
    }

    fn handle_timeout(_: &ServerInfo) {
        println!("handle_timeout");
    }

    fn service_actions(_: &ServerInfo) {
        println!("service_actions");
    }
}

export!(Guest: RequestHandler + ServerHooks);
