//! Uses the processor in `handle` and never ends.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, _: &Request) -> Result {
        loop {
            std::hint::black_box(());
        }
    }
}

export!(Guest: RequestHandler);
