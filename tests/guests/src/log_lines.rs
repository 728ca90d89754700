//! Prints lines to standard output and error: with control characters, and without a last line feed.

use std::io::{self, Write};

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, _: &Request) -> Result {
        println!("a line to stdout");
        eprintln!("a line to stderr");
        println!("\x1b[31mred\x1b[0m, bell \x07, return \r, null \0");
        println!("not UTF-8 follows:");
        io::stdout().write_all(b"\xff\xfe\n")?;
        print!("no line feed");
        io::stdout().flush()?;
        Ok(())
    }
}

export!(Guest: RequestHandler);
