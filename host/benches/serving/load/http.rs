//! A request of HTTP/1.1 that posts a message, and the answer that brings it back.

use std::io::{self, ErrorKind, Read};

use anyhow::{anyhow, bail, ensure};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

pub fn request(message: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", message.len());
    [head.as_bytes(), message].concat()
}

/// What one read takes at most.
const PIECE: usize = 1024;

/// The body of an answer, of which `received` has come before; `None` at the end of the stream. An error that lets one try
/// again loses nothing.
pub fn receive(stream: &mut impl Read, received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut piece = [0; PIECE];
        let count = stream.read(&mut piece)?;
        received.extend(&piece[..count]);
        if let Some(body) = body(received).map_err(io::Error::other)? {
            received.clear();
            return Ok(Some(body));
        }
        match (count, received.is_empty()) {
            (0, true) => return Ok(None),
            (0, false) => return Err(ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

/// The body of the answer in what has been received; `None` while it is not whole.
fn body(received: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut headers = [EMPTY_HEADER; 16];
    let mut response = Response::new(&mut headers);
    let Status::Complete(length) = response.parse(received)? else { return Ok(None) };
    ensure!(response.code == Some(200), "the answer's status is {:?}", response.code);
    let (mut rest, mut body) = (&received[length..], Vec::new());
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    if let Some(length) = length {
        let length: usize = std::str::from_utf8(length.value)?.parse()?;
        ensure!(rest.len() <= length, "more came than the answer");
        return Ok((rest.len() == length).then(|| rest.to_vec()));
    }
    loop {
        let chunk = parse_chunk_size(rest).map_err(|_| anyhow!("neither a length nor chunks came"))?;
        let Status::Complete((begin, length)) = chunk else { return Ok(None) };
        let end = begin + length as usize;
        match rest.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => body.extend(&rest[begin..end]),
            Some(_) => bail!("a chunk has another length"),
        }
        rest = &rest[end + 2..];
        if length == 0 {
            ensure!(rest.is_empty(), "more came than the answer");
            return Ok(Some(body));
        }
    }
}
