//! Sends the name of each phase, and traps in `setup`.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn setup(&mut self, request: &Request) -> Result {
        request.send(b"setup\n")?;
        panic!("trap in setup")
    }

    fn handle(&mut self, request: &Request) -> Result {
        Ok(request.send(b"handle\n")?)
    }

    fn finish(&mut self, request: &Request) -> Result {
        Ok(request.send(b"finish\n")?)
    }
}

export!(Guest: RequestHandler);
