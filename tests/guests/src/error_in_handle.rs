//! Sends the name of each phase, and returns an error from `handle`.

use plugsock_sdk::{HandlerError, Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn setup(&mut self, request: &Request) -> Result {
        Ok(request.send(b"setup\n")?)
    }

    fn handle(&mut self, request: &Request) -> Result {
        request.send(b"handle\n")?;
        Err(HandlerError::new("error in handle"))
    }

    fn finish(&mut self, request: &Request) -> Result {
        Ok(request.send(b"finish\n")?)
    }
}

export!(Guest: RequestHandler);
