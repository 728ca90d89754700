//! Obeys `read PATH`, `write PATH TEXT`, `link PATH PATH`, `rename PATH PATH` and `list PATH`, and answers the
//! data or the error.

use std::fs;
use std::io::{self, BufRead, Read, Write};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        for line in request.rfile.by_ref().lines() {
            match obey(&line?) {
                Ok(data) => writeln!(request.wfile, "{data}")?,
                Err(error) => writeln!(request.wfile, "error: {error}")?,
            }
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);

fn obey(line: &str) -> io::Result<String> {
    let mut words = line.splitn(3, ' ');
    match [words.next(), words.next(), words.next()] {
        [Some("read"), Some(path), None] => fs::read_to_string(path),
        [Some("write"), Some(path), Some(text)] => fs::write(path, text).map(|()| "written".to_owned()),
        [Some("link"), Some(path), Some(to)] => fs::hard_link(path, to).map(|()| "linked".to_owned()),
        [Some("rename"), Some(path), Some(to)] => fs::rename(path, to).map(|()| "renamed".to_owned()),
        [Some("list"), Some(path), None] => {
            let names =
                fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<io::Result<Vec<String>>>()?;
            names.sort();
            Ok(names.join(" "))
        }
        _ => Err(io::Error::other("read, write, link, rename or list")),
    }
}
