//! Answers each line in upper case.

use std::io::{BufRead, Write};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Upper;

impl StreamRequestHandler for Upper {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = String::new();
        while request.rfile.read_line(&mut line)? > 0 {
            request.wfile.write_all(line.to_uppercase().as_bytes())?;
            line.clear();
        }
        Ok(())
    }
}

export!(Upper: StreamRequestHandler);
