//! Sends the name of each phase, and returns an error from `finish`.

use plugsock_sdk::{HandlerError, Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn setup(&mut self, request: &Request) -> Result {
        Ok(request.send(b"setup\n")?)
    }

    fn handle(&mut self, request: &Request) -> Result {
        Ok(request.send(b"handle\n")?)
    }

    fn finish(&mut self, request: &Request) -> Result {
        request.send(b"finish\n")?;
        Err(HandlerError::new("error in finish"))
    }
}

export!(Guest: RequestHandler);
