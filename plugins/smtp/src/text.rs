//! The text of a message as DATA transfers it (RFC 5321, 4.5.2).

use crate::reply::Reply;

/// Takes the text off the wire: lines end with LF in the result, and the dots that were put before dots are gone.
///
/// CR LF alone ends a line, and so CR LF dot CR LF alone ends the text. Whoever passes mail on may take a bare LF for
/// a line's end as well, so a text with one of them is refused: it may hold a second message for such a program.
#[derive(Default)]
pub struct Text {
    state: State,
    /// As long as it is on the wire without added dots.
    size: u64,
    has_bare_end: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    LineStart,
    /// After a dot that began a line.
    Dot,
    /// After the CR that may end the text.
    DotCr,
    InLine,
    Cr,
    Whole,
}

impl Text {
    /// Appends the decoded bytes to `lines`; how many were taken, which is all of them before the text's end.
    pub fn decode(&mut self, received: &[u8], lines: &mut Vec<u8>) -> usize {
        for (index, &byte) in received.iter().enumerate() {
            self.next(byte, lines);
            if self.is_whole() {
                return index + 1;
            }
        }
        received.len()
    }

    pub fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Why the text cannot be kept.
    pub fn fault(&self, max_size: u64) -> Option<Reply> {
        if self.has_bare_end {
            Some(Reply::new(550, "5.6.0 the message has a CR without LF, or a LF without CR"))
        } else if self.size > max_size {
            Some(Reply::new(552, format!("5.3.4 the message is longer than {max_size} bytes")))
        } else {
            None
        }
    }

    fn next(&mut self, byte: u8, lines: &mut Vec<u8>) {
        self.state = match (self.state, byte) {
            (State::LineStart, b'.') => State::Dot,
            (State::Dot, b'\r') => State::DotCr,
            (State::DotCr, b'\n') => State::Whole,
            (State::Cr, b'\n') => {
                lines.push(b'\n');
                self.size += 2;
                State::LineStart
            }
            (before, byte) => {
                // A CR before this byte was no line's end, and a LF here is none.
                self.has_bare_end |= matches!(before, State::Cr | State::DotCr) || byte == b'\n';
                if byte == b'\r' {
                    State::Cr
                } else {
                    lines.push(byte);
                    self.size += 1;
                    State::InLine
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoded text, what follows it, and whether it has a fault; in pieces of each size.
    fn decode(wire: &[u8]) -> (String, String, bool) {
        let decode_by = |size: usize| {
            let (mut text, mut lines, mut taken) = (Text::default(), Vec::new(), 0);
            for piece in wire.chunks(size) {
                if !text.is_whole() {
                    taken += text.decode(piece, &mut lines);
                }
            }
            assert!(text.is_whole(), "{}", wire.escape_ascii());
            let read = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (read(&lines), read(&wire[taken..]), text.fault(u64::MAX).is_some())
        };
        let whole = decode_by(wire.len());
        for size in 1..wire.len() {
            assert_eq!(decode_by(size), whole);
        }
        whole
    }

    #[test]
    fn dots_are_unstuffed() {
        let good = |wire: &[u8], text: &str, rest: &str| {
            assert_eq!(decode(wire), (text.to_owned(), rest.to_owned(), false));
        };
        good(b".\r\nQUIT\r\n", "", "QUIT\r\n");
        good(b"a\r\n\r\n.\r\n", "a\n\n", "");
        good(b"..\r\n..a\r\na.\r\n.\r\n", ".\n.a\na.\n", "");
        good(b".a\r\n.\r\n", "a\n", "");
    }

    #[test]
    fn nothing_else_ends_a_text() {
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\r\n\0.\r\n",
            "\r\n.\r\r\n",
            "\n.\r",
        ] {
            let wire = format!("a{end}MAIL FROM:<b@c>\r\n.\r\nQUIT\r\n");
            let (text, rest, fault) = decode(wire.as_bytes());
            assert!(text.contains("MAIL FROM"), "{end:?}");
            assert_eq!(rest, "QUIT\r\n", "{end:?}");
            assert_eq!(fault, !end.contains('\0'), "{end:?}");
        }
    }

    #[test]
    fn a_text_has_the_size_that_its_sender_counts() {
        let mut text = Text::default();
        text.decode(b"..a\r\n.\r\n", &mut Vec::new());
        assert_eq!(text.size, 4);
        assert!(text.fault(4).is_none() && text.fault(3).is_some());
    }
}
