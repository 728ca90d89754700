//! Answers a packet with three.

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl DatagramRequestHandler for Guest {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        for reply in ["1", "2", "3"] {
            request.send(reply.as_bytes())?;
        }
        Ok(())
    }
}

export!(Guest: DatagramRequestHandler);
