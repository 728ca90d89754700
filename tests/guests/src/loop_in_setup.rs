//! Uses the processor in `setup` and never ends.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn setup(&mut self, _: &Request) -> Result {
        loop {
            std::hint::black_box(());
        }
    }

    fn handle(&mut self, request: &Request) -> Result {
        Ok(request.send(b"handle\n")?)
    }
}

export!(Guest: RequestHandler);
