//! Waits for the client and a timer at once: echoes what comes, sends `tick` after every 50 ms without,
//! and ends with the client's data or after 5 s.

use std::time::{Duration, Instant};

use plugsock_sdk::wasi::clocks::monotonic_clock::subscribe_duration;
use plugsock_sdk::wasi::io::poll::poll;
use plugsock_sdk::wasi::io::streams::StreamError;
use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let (rfile, wfile) = (request.rfile()?, request.wfile()?);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            let (client, timer) = (rfile.subscribe(), subscribe_duration(50_000_000));
            poll(&[&client, &timer]);
            if client.ready() {
                match rfile.read(4096) {
                    Ok(data) => wfile.blocking_write_and_flush(&data)?,
                    Err(StreamError::Closed) => break,
                    Err(error) => return Err(error.into()),
                }
            } else {
                wfile.blocking_write_and_flush(b"tick\n")?;
            }
        }
        Ok(())
    }
}

export!(Guest: RequestHandler);
