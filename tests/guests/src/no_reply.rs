//! Reads a packet and answers nothing.

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl DatagramRequestHandler for Guest {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        println!("{} bytes", request.packet.len());
        Ok(())
    }
}

export!(Guest: DatagramRequestHandler);
