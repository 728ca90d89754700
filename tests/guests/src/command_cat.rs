//! An ordinary program that writes what it reads, at once.

use std::io::{Read, Result, Write, stdin, stdout};

fn main() -> Result<()> {
    let (mut stdin, mut stdout) = (stdin().lock(), stdout().lock());
    let mut buffer = [0; 16 * 1024];
    loop {
        match stdin.read(&mut buffer)? {
            0 => return Ok(()),
            length => stdout.write_all(&buffer[..length])?,
        }
        stdout.flush()?;
    }
}
