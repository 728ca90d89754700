//! Answers with the same bytes: standard input and output are the connection.

use std::io::{Read, Result, Write, stdin, stdout};

fn main() -> Result<()> {
    let mut data = [0; 8192];
    loop {
        let length = stdin().read(&mut data)?;
        if length == 0 {
            return Ok(());
        }
        stdout().write_all(&data[..length])?;
        stdout().flush()?;
    }
}
