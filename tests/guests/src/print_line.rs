//! Prints the line that it gets to the log, and says so.

use std::io::{BufRead, Write};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = String::new();
        request.rfile.read_line(&mut line)?;
        print!("{line}");
        Ok(request.wfile.write_all(b"printed")?)
    }
}

export!(Guest: StreamRequestHandler);
