//! The lines that commands are.

use std::io::{self, BufRead};

/// The longest command with its end (RFC 5321, 4.5.3.1.4), and what the parameters of MAIL add (RFC 1870, RFC 6152).
const LONGEST: usize = 512 + 26 + 17;

/// What came instead of a command, or the command without its end.
#[derive(Debug, PartialEq)]
pub enum Line {
    Command(String),
    TooLong,
    /// It has a CR without LF, or LF without CR: what is a line's end for one program and none for another is a way
    /// to smuggle commands.
    BareEnd,
    /// It has bytes that are not printable ASCII.
    NotText,
}

/// Reads to the next LF; nothing is left to read after `None`, and no more than a line is ever kept.
pub fn read(rfile: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    loop {
        let received = rfile.fill_buf()?;
        if received.is_empty() {
            return Ok(None);
        }
        let end = received.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(received.len(), |end| end + 1);
        line.extend_from_slice(&received[..length.min(LONGEST + 1 - line.len())]);
        rfile.consume(length);
        if end.is_some() {
            return Ok(Some(Line::parse(&line)));
        }
    }
}

impl Line {
    fn parse(line: &[u8]) -> Self {
        if line.len() > LONGEST {
            return Line::TooLong;
        }
        match line.strip_suffix(b"\r\n") {
            None => Line::BareEnd,
            Some(command) if command.contains(&b'\r') => Line::BareEnd,
            Some(command) if command.iter().all(|&byte| matches!(byte, b' '..=b'~' | b'\t')) => {
                Line::Command(String::from_utf8_lossy(command).into_owned())
            }
            Some(_) => Line::NotText,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut text: &[u8]) -> Vec<Line> {
        std::iter::from_fn(|| read(&mut text).unwrap()).collect()
    }

    #[test]
    fn a_line_ends_with_both() {
        let command = |text: &str| Line::Command(text.to_owned());
        assert_eq!(lines(b"NOOP\r\n\r\nQUIT\r\nRSE"), [command("NOOP"), command(""), command("QUIT")]);
        assert_eq!(lines(b"NOOP\nQUIT\r\n"), [Line::BareEnd, command("QUIT")]);
        assert_eq!(lines(b"NOOP\rQUIT\r\n"), [Line::BareEnd]);
        assert_eq!(lines(b"NO\0OP\r\nN\xc3\x96\r\n"), [Line::NotText, Line::NotText]);
    }

    #[test]
    fn a_long_line_is_skipped_to_its_end() {
        let mut text = vec![b'x'; LONGEST - 2];
        text.extend(b"\r\n");
        assert!(matches!(lines(&text)[..], [Line::Command(_)]));
        let mut text = vec![b'x'; 1 << 20];
        text.extend(b"\r\nQUIT\r\n");
        assert_eq!(lines(&text), [Line::TooLong, Line::Command("QUIT".to_owned())]);
    }
}
