//! What a client is answered (RFC 5321, 4.2; the second code is RFC 3463's).

use std::fmt;

/// A reply; each line of its text is one of the reply's.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub code: u16,
    text: String,
}

impl Reply {
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Reply { code, text: text.into() }
    }

    /// Whether the client has to do something else than try again.
    pub fn is_failure(&self) -> bool {
        self.code >= 500
    }
}

/// As it is sent.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.text.lines().peekable();
        while let Some(line) = lines.next() {
            let sign = if lines.peek().is_some() { '-' } else { ' ' };
            write!(f, "{}{sign}{line}\r\n", self.code)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_but_the_last_have_a_hyphen() {
        assert_eq!(Reply::new(250, "one").to_string(), "250 one\r\n");
        assert_eq!(Reply::new(250, "one\ntwo").to_string(), "250-one\r\n250 two\r\n");
    }
}
