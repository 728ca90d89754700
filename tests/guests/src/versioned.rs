//! Answers each line with a name and the line. Tests write another name into the component to make another
//! version of it.

use std::hint::black_box;
use std::io::{BufRead, Write};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

/// Where the name is, found by its first bytes.
static NAME: [u8; 16] = *b"version-name:AAA";

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        // What the compiler knew of it would not change with the component.
        let name = &black_box(&NAME)[13..];
        let mut line = Vec::new();
        while request.rfile.read_until(b'\n', &mut line)? > 0 {
            request.wfile.write_all(&[name, b" ", &line].concat())?;
            line.clear();
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);
