//! Makes the file `/dir/begun` and waits for the file `/dir/go`, before it answers `gone on`.

use std::fs;
use std::thread;
use std::time::Duration;

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        fs::write("/dir/begun", "")?;
        while !fs::exists("/dir/go")? {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(request.send(b"gone on\n")?)
    }
}

export!(Guest: RequestHandler);
