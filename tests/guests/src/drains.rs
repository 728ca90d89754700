//! Says at each line whether its version drains, and ends at the next one if so. After the line `wait` it waits
//! for the drain and its client at once.

use plugsock_sdk::wasi::io::poll::poll;
use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        loop {
            let data = request.recv(4096)?;
            if data.is_empty() {
                return Ok(());
            }
            if request.is_draining() {
                return Ok(request.send(b"draining\n")?);
            }
            request.send(b"serving\n")?;
            if data.starts_with(b"wait") {
                let rfile = request.rfile()?;
                let (client, drain) = (rfile.subscribe(), request.subscribe_drain());
                poll(&[&client, &drain]);
                if drain.ready() {
                    return Ok(request.send(b"bye\n")?);
                }
            }
        }
    }
}

export!(Guest: RequestHandler);
