//! Answers a packet with an empty one.

use std::io::Write;

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl DatagramRequestHandler for Guest {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        request.wfile.flush()?;
        Ok(())
    }
}

export!(Guest: DatagramRequestHandler);
