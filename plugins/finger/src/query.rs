//! The line that a client sends (RFC 1288, 2.3).

/// What a client wants to know.
#[derive(Debug, PartialEq)]
pub enum Query<'a> {
    /// Who there is.
    Everybody,
    /// About one user; with `/W` at length.
    User { name: &'a str, verbose: bool },
    /// What another host knows: never answered.
    Forward,
    /// Not a user's name: nothing else may become a file's name.
    Invalid,
}

impl<'a> Query<'a> {
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (verbose, name) = match line.strip_prefix("/W").or_else(|| line.strip_prefix("/w")) {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        match name {
            "" => Query::Everybody,
            _ if name.contains('@') => Query::Forward,
            _ if is_name(name) => Query::User { name, verbose },
            _ => Query::Invalid,
        }
    }
}

/// Whether this can be a user's name, and so the name of a file that may be read.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.starts_with('.') && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_the_rfc_writes_them() {
        assert_eq!(Query::parse("\r\n"), Query::Everybody);
        assert_eq!(Query::parse("/W\r\n"), Query::Everybody);
        assert_eq!(Query::parse("ada\r\n"), Query::User { name: "ada", verbose: false });
        assert_eq!(Query::parse("/W ada\r\n"), Query::User { name: "ada", verbose: true });
        assert_eq!(Query::parse("ada@example.org\r\n"), Query::Forward);
        assert_eq!(Query::parse("@example.org\r\n"), Query::Forward);
    }

    #[test]
    fn no_query_names_another_file() {
        for line in ["../passwd", ".plan", "/users/ada", "a b", "a\0", "ä"] {
            assert_eq!(Query::parse(line), Query::Invalid, "{line:?}");
        }
    }
}
