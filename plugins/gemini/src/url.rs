//! The line that a client sends: a URL and nothing else.

use crate::response::Response;

const LONGEST: usize = 1024;

/// The parts of a URL that a server needs.
#[derive(Debug, PartialEq)]
pub struct Url<'a> {
    pub host: &'a str,
    /// As it came; empty or with a slash before it.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl<'a> Url<'a> {
    pub fn parse(line: &'a [u8]) -> Result<Self, Response> {
        let line = line.strip_suffix(b"\r\n").ok_or(Response::bad_request("a request is one line"))?;
        if line.len() > LONGEST {
            return Err(Response::bad_request("the URL is too long"));
        }
        let bad = || Response::bad_request("that is no URL");
        let text = str::from_utf8(line).map_err(|_| bad())?;
        // What is none of these can stand in an answer's first line, too.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '#') {
            return Err(bad());
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
            return Err(bad());
        }
        if !scheme.eq_ignore_ascii_case("gemini") {
            return Err(Response::refused("this server speaks for gemini:// alone"));
        }
        let (authority, _) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let rest = &rest[authority.len()..];
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let host = host(authority).ok_or_else(bad)?;
        Ok(Url { host, path, query })
    }
}

/// The host of `HOST` or `HOST:PORT`. Which port a client has found the server at is nothing to it.
fn host(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
    // Gemini has no user names.
    (!host.is_empty() && is_port && !host.contains('@')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Url<'_>, u8> {
        Url::parse(text.as_bytes()).map_err(|response| response.status)
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = |host, path, query| Ok(Url { host, path, query });
        assert_eq!(parse("gemini://a.example\r\n"), url("a.example", "", None));
        assert_eq!(parse("GEMINI://a:1965/b/?c/d?e\r\n"), url("a", "/b/", Some("c/d?e")));
        assert_eq!(parse("gemini://[::1]:1/b\r\n"), url("[::1]", "/b", None));
        assert_eq!(parse("gemini://a?b\r\n"), url("a", "", Some("b")));
        assert_eq!(parse("https://a/\r\n"), Err(53));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in [
            "",
            "gemini://a/",
            "gemini://a/\n",
            "\r\n",
            "/\r\n",
            "//a/\r\n",
            "gemini:///b\r\n",
            "gemini://b@a/\r\n",
            "gemini://a:b/\r\n",
            "gemini://[::1/\r\n",
            "gemini://[::1]b/\r\n",
            "gemini://a/b c\r\n",
            "gemini://a/\r20 text/plain\r\n",
            "gemini://a/\0\r\n",
            "gemini://a/#b\r\n",
            "\u{feff}gemini://a/\r\n",
        ] {
            assert_eq!(parse(text), Err(59), "{text:?}");
        }
        let longest = format!("gemini://a/{}", "b".repeat(LONGEST - 11));
        assert!(parse(&format!("{longest}\r\n")).is_ok());
        assert_eq!(parse(&format!("{longest}b\r\n")), Err(59));
    }
}
