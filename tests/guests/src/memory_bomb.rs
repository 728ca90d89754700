//! Takes memory until there is no more, and sends how many MiB it got.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut block = Vec::new();
            if block.try_reserve_exact(1 << 20).is_err() {
                return Ok(request.send(format!("{} MiB\n", blocks.len()).as_bytes())?);
            }
            block.resize(1 << 20, 0xa5);
            blocks.push(block);
        }
    }
}

export!(Guest: RequestHandler);
