//! Answers with a packet's length.

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};
use std::io::Write;

#[derive(Default)]
struct Length;

impl DatagramRequestHandler for Length {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        Ok(write!(request.wfile, "{} bytes", request.packet.len())?)
    }
}

export!(Length: DatagramRequestHandler);
