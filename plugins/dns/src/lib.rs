//! An authoritative name server, by UDP and TCP. Its zones are the `*.zone` files in the granted directory
//! `/zone`.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use plugsock_sdk::{HandlerError, Result, StreamRequest, StreamRequestHandler, export};

mod answer;
mod message;
mod name;
mod record;
mod zone;

use answer::{TCP_LIMIT, UDP_LIMIT, answer};
use zone::Zone;

const ZONES: &str = "/zone";

#[derive(Default)]
struct Dns;

impl StreamRequestHandler for Dns {
    /// A client that keeps its connection for a next question is waited for so long (RFC 7766, 6.2.3).
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(10));

    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let zones = zones();
        let known = zones.as_deref().ok();
        if request.server().server_type.is_datagram() {
            let mut packet = Vec::new();
            request.rfile.read_to_end(&mut packet)?;
            if let Some(reply) = answer(&packet, known, UDP_LIMIT) {
                request.wfile.write_all(&reply)?;
            }
        } else {
            while let Some(packet) = message(&mut request.rfile)? {
                let Some(reply) = answer(&packet, known, TCP_LIMIT) else { break };
                let length = (reply.len() as u16).to_be_bytes();
                request.wfile.write_all(&[&length[..], &reply].concat())?;
            }
        }
        // The client has had SERVFAIL; the reason is for the log.
        zones.map(drop)
    }
}

export!(Dns: StreamRequestHandler);

fn zones() -> Result<Vec<Zone>> {
    let mut zones = Vec::new();
    for entry in fs::read_dir(ZONES)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "zone") {
            let zone = Zone::parse(&fs::read_to_string(&path)?);
            zones.push(zone.map_err(|error| HandlerError::new(format!("{}: {error}", path.display())))?);
        }
    }
    Ok(zones)
}

/// The next message of a TCP connection: two bytes say how long it is. None when the client has no more
/// questions, or none in time.
fn message(rfile: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match rfile.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::TimedOut].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    rfile.read_exact(&mut message)?;
    Ok(Some(message))
}
