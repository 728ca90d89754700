//! Fails in the phase that the first line names.

use std::io::{BufRead, Write};

use plugsock_sdk::{HandlerError, Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Phases {
    line: String,
}

impl Phases {
    fn fail_in(&self, phase: &str) -> Result {
        if self.line == phase { Err(HandlerError::new("as asked")) } else { Ok(()) }
    }
}

impl StreamRequestHandler for Phases {
    fn setup(&mut self, request: &mut StreamRequest) -> Result {
        request.rfile.read_line(&mut self.line)?;
        self.fail_in("setup\n")
    }

    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        request.wfile.write_all(b"handle\n")?;
        self.fail_in("handle\n")
    }

    fn finish(&mut self, request: &mut StreamRequest) -> Result {
        request.wfile.write_all(b"finish\n")?;
        self.fail_in("finish\n")
    }
}

export!(Phases: StreamRequestHandler);
