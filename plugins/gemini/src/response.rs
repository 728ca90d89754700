//! What a client is answered: a status, and what it is about.

use std::fs::File;
use std::io::{self, Read, Write};

/// How much of a file is read before it is sent.
const CHUNK: u64 = 64 * 1024;

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u8,
    /// A media type, a URL, or what is wrong, in words.
    pub meta: String,
    body: Option<File>,
}

impl Response {
    pub fn file(media_type: String, file: File) -> Self {
        Response { status: 20, meta: media_type, body: Some(file) }
    }

    pub fn redirect(url: String) -> Self {
        Response::without_body(30, url)
    }

    pub fn failed() -> Self {
        Response::without_body(40, "the file could not be read")
    }

    pub fn not_found() -> Self {
        Response::without_body(51, "there is no such file")
    }

    /// For another server.
    pub fn refused(why: &str) -> Self {
        Response::without_body(53, why)
    }

    pub fn bad_request(why: &str) -> Self {
        Response::without_body(59, why)
    }

    pub fn certificate_required() -> Self {
        Response::without_body(60, "this needs a client certificate")
    }

    pub fn not_authorised() -> Self {
        Response::without_body(61, "this is not for the holder of your certificate")
    }

    pub fn send(self, wfile: &mut impl Write) -> io::Result<()> {
        let mut chunk = format!("{} {}\r\n", self.status, self.meta).into_bytes();
        if let Some(file) = &self.body {
            while file.take(CHUNK).read_to_end(&mut chunk)? > 0 {
                wfile.write_all(&chunk)?;
                chunk.clear();
            }
        }
        // The header, where there is nothing else.
        wfile.write_all(&chunk)
    }

    fn without_body(status: u8, meta: impl Into<String>) -> Self {
        Response { status, meta: meta.into(), body: None }
    }
}
