//! Answers with 70,000 bytes at once, and then with the error that this met, if it met one.

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl DatagramRequestHandler for Guest {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        if let Err(error) = request.send(&vec![b'x'; 70_000]) {
            request.send(error.message().as_bytes())?;
        }
        Ok(())
    }
}

export!(Guest: DatagramRequestHandler);
