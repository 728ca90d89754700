//! Echoes with `DatagramRequestHandler`; an empty packet gets an empty reply.

use std::io::Write;

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl DatagramRequestHandler for Guest {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        request.wfile.write_all(request.packet)?;
        request.wfile.flush()?;
        Ok(())
    }
}

export!(Guest: DatagramRequestHandler);
