//! Answers with the same bytes.

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Echo;

impl StreamRequestHandler for Echo {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        std::io::copy(&mut request.rfile, &mut request.wfile)?;
        Ok(())
    }
}

export!(Echo: StreamRequestHandler);
