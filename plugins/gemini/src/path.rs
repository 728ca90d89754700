//! From a URL's path to the names of folders and a file.

use crate::response::Response;

/// Where the users' certificates are named, and what only they may see.
pub const PRIVATE: &str = "private";

/// A path below the site; none of its names leads out of it, or is hidden.
#[derive(Debug, PartialEq)]
pub struct Path {
    pub names: Vec<String>,
    /// Whether it ends with a slash.
    pub is_folder: bool,
}

impl Path {
    pub fn parse(path: &str) -> Result<Self, Response> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Path { names: Vec::new(), is_folder: true });
        }
        let (path, is_folder) = match path.strip_suffix('/') {
            Some(folder) => (folder, true),
            None => (path, false),
        };
        let names = path.split('/').map(name).collect::<Result<_, _>>()?;
        Ok(Path { names, is_folder })
    }

    pub fn is_private(&self) -> bool {
        self.names.first().is_some_and(|name| name == PRIVATE)
    }
}

/// One name, which is decoded after the path was split, so that it can be no more than one.
fn name(encoded: &str) -> Result<String, Response> {
    let bytes = decode(encoded).ok_or(Response::bad_request("a % begins no escape"))?;
    if bytes.iter().any(|&byte| byte == b'/' || byte.is_ascii_control()) || bytes == b"." || bytes == b".." {
        return Err(Response::bad_request("no file has such a name"));
    }
    match String::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && !name.starts_with('.') => Ok(name),
        _ => Err(Response::not_found()),
    }
}

/// Without its escapes; nothing if one is none.
fn decode(encoded: &str) -> Option<Vec<u8>> {
    let mut pieces = encoded.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.as_bytes().split_at_checked(2)?;
        let digit = |index: usize| char::from(digits[index]).to_digit(16);
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        bytes.extend(rest);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Path, u8> {
        Path::parse(text).map_err(|response| response.status)
    }

    #[test]
    fn names_are_decoded() {
        let path = |names: &[&str], is_folder| {
            Ok(Path { names: names.iter().map(|&name| name.to_owned()).collect(), is_folder })
        };
        assert_eq!(parse(""), path(&[], true));
        assert_eq!(parse("/"), path(&[], true));
        assert_eq!(parse("/a"), path(&["a"], false));
        assert_eq!(parse("/a/b%20c/"), path(&["a", "b c"], true));
        assert_eq!(parse("/z%C3%b6/x..y"), path(&["zö", "x..y"], false));
        assert!(parse("/%70rivate/").unwrap().is_private());
        assert!(!parse("/a/private/").unwrap().is_private());
    }

    #[test]
    fn no_path_leads_out() {
        for text in [
            "/..",
            "/a/../b",
            "/%2e%2E/b",
            "/.%2e",
            "/.",
            "/a%2Fb",
            "/a%00",
            "/a%0a",
            "/%",
            "/%4",
            "/%zz",
            "/%é",
        ] {
            assert_eq!(parse(text), Err(59), "{text}");
        }
        for text in ["/.users", "/private/%2Eusers", "/a/.git/config", "//", "//a", "/a//b", "/...", "/%ff"] {
            assert_eq!(parse(text), Err(51), "{text}");
        }
    }
}
