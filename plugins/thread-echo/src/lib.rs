//! Answers with the name of the thread, task or process that serves the request, and the data.

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct ThreadEcho;

impl RequestHandler for ThreadEcho {
    fn handle(&mut self, request: &Request) -> Result {
        let prefix = format!("{}: ", request.worker());
        loop {
            let data = request.recv(64 * 1024)?;
            if data.is_empty() {
                return Ok(());
            }
            request.send(&[prefix.as_bytes(), &data].concat())?;
        }
    }
}

export!(ThreadEcho: RequestHandler);
