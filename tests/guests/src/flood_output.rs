//! Sends 1 GiB.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let block = vec![b'x'; 64 * 1024];
        for _ in 0..16 * 1024 {
            request.send(&block)?;
        }
        Ok(())
    }
}

export!(Guest: RequestHandler);
