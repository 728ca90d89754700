//! Tells about users: the finger protocol (RFC 1288). Each file in the granted directory `/users` is a user;
//! its first line is the user's full name and the rest is the plan.

use std::fs;
use std::io::{self, BufRead, Read, Write};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

mod query;

use query::{Query, is_name};

const USERS: &str = "/users";

/// No user has a longer name.
const LONGEST_LINE: u64 = 512;

#[derive(Default)]
struct Finger;

impl StreamRequestHandler for Finger {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = Vec::new();
        request.rfile.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        let answer = match Query::parse(&String::from_utf8_lossy(&line)) {
            Query::Everybody => everybody()?,
            Query::User { name, verbose } => user(name, verbose)?,
            Query::Forward => "Finger forwarding service denied.\n".to_owned(),
            Query::Invalid => "That is not a user's name.\n".to_owned(),
        };
        request.wfile.write_all(printable(&answer).as_bytes())?;
        Ok(())
    }
}

export!(Finger: StreamRequestHandler);

fn everybody() -> io::Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(USERS)? {
        let entry = entry?;
        let login = entry.file_name().to_string_lossy().into_owned();
        if is_name(&login) && entry.file_type()?.is_file() {
            let about = fs::read_to_string(format!("{USERS}/{login}"))?;
            lines.push(format!("{login:16} {}\n", about.lines().next().unwrap_or_default()));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

fn user(login: &str, verbose: bool) -> io::Result<String> {
    let about = match fs::read_to_string(format!("{USERS}/{login}")) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(format!("{login}: no such user.\n"));
        }
        Err(error) => return Err(error),
    };
    let (name, plan) = about.split_once('\n').unwrap_or((&about, ""));
    let plan = if verbose { format!("Plan:\n{plan}") } else { String::new() };
    Ok(format!("Login: {login}\nName: {name}\n{plan}"))
}

/// With the network's line ends, and without what would control the client's terminal (RFC 1288, 3.3).
fn printable(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        lines.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
        lines.push_str("\r\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_controls_the_terminal() {
        assert_eq!(super::printable("a\x1b[31mb\tc\u{9b}\nd"), "a[31mb\tc\r\nd\r\n");
    }
}
