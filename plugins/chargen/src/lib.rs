//! Sends lines of printable characters until the client has had enough: the character generator protocol
//! (RFC 864). A datagram gets one of up to 512 characters.

use std::hash::{BuildHasher, RandomState};

use plugsock_sdk::{Error, Request, RequestHandler, Result, export};

#[derive(Default)]
struct Chargen;

impl RequestHandler for Chargen {
    fn handle(&mut self, request: &Request) -> Result {
        let text = pattern();
        if request.server().server_type.is_datagram() {
            let length = RandomState::new().hash_one(()) % 513;
            return Ok(request.send(&text[..length as usize])?);
        }
        loop {
            match request.send(&text) {
                Ok(()) => {}
                Err(Error::Closed | Error::Reset) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

export!(Chargen: RequestHandler);

/// Each line of 72 characters begins one character later than the line before; after 95 it starts over.
fn pattern() -> Vec<u8> {
    let line = |first| (first..first + 72).map(|i| b' ' + (i % 95) as u8).chain(*b"\r\n");
    (0..95).flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pattern_is_the_rfc_s() {
        let text = String::from_utf8(super::pattern()).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 95);
        assert_eq!(lines[1], r##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##);
        assert!(lines[94].starts_with("~ !"));
    }
}
