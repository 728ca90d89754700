//! Counts: each line names something, and the answer is how often it has been named, by whomever. An empty line stands for the
//! client itself. The counts are in the store `counts`.

use std::io::{BufRead, Read, Write};

use plugsock_sdk::{Address, Result, StreamRequest, StreamRequestHandler, export};

/// No name is longer.
const LONGEST_NAME: u64 = 200;

#[derive(Default)]
struct Counter;

impl StreamRequestHandler for Counter {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let counts = request.server().state("counts")?;
        let client = client(&request.client_address());
        loop {
            let mut line = Vec::new();
            if request.rfile.by_ref().take(LONGEST_NAME + 2).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let answer = match line.trim() {
                name if name.len() as u64 > LONGEST_NAME => return Ok(writeln!(request.wfile, "too long")?),
                "" => format!("{client} {}\n", counts.increment(&format!("client:{client}"), 1)?),
                name => format!("{name} {}\n", counts.increment(&format!("name:{name}"), 1)?),
            };
            request.wfile.write_all(answer.as_bytes())?;
        }
    }
}

export!(Counter: StreamRequestHandler);

/// A client has another port each time.
fn client(address: &Address) -> String {
    address.ip().map_or_else(|| address.to_string(), |ip| ip.ip().to_string())
}
