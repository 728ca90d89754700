//! Echoes through the request's `wasi:io` streams.

use plugsock_sdk::wasi::io::streams::StreamError;
use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let (rfile, wfile) = (request.rfile()?, request.wfile()?);
        loop {
            match rfile.blocking_read(4096) {
                Ok(data) => wfile.blocking_write_and_flush(&data)?,
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

export!(Guest: RequestHandler);
