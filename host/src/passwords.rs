//! Addresses as logs, errors and pages show them: without what lets one in.

/// An address, or another text that ends with one, without its password: `redis://user:***@host`. Where there is no user beside it,
/// it is a token, and left out as a whole.
///
/// ```
/// assert_eq!(plugsock::without_password("redis://app:secret@cache.lan/1"), "redis://app:***@cache.lan/1");
/// assert_eq!(plugsock::without_password("nats://token@nats.lan"), "nats://***@nats.lan");
/// ```
pub fn without_password(address: &str) -> String {
    let hidden = || {
        let (scheme, rest) = address.split_once("://")?;
        // A reference in a registry may have a digest after another `@`. Elsewhere a password may have signs in it that end it for
        // whoever reads the address by the rules.
        let most = if scheme.ends_with("oci") { rest.find('/').unwrap_or(rest.len()) } else { rest.len() };
        let at = rest[..most].rfind('@')?;
        let user = rest[..at].split_once(':').map(|(user, _)| format!("{user}:")).unwrap_or_default();
        Some(format!("{scheme}://{user}***{}", &rest[at..]))
    };
    hidden().unwrap_or_else(|| address.to_owned())
}

/// The same of all addresses in a sentence.
pub(crate) fn without_passwords(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(without_password).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_password() {
        for (address, shown) in [
            ("redis://a:secret@b/1", "redis://a:***@b/1"),
            ("redis://:secret@b", "redis://:***@b"),
            ("nats://secret@b/c", "nats://***@b/c"),
            ("counts:ro=rediss://a:secret@b?hash=x", "counts:ro=rediss://a:***@b?hash=x"),
            // Nor one that has more signs in it than it may.
            ("redis://a:se/c?r@e#t@b", "redis://a:***@b"),
            ("oci://a:secret@cr.example/b@sha256:0", "oci://a:***@cr.example/b@sha256:0"),
            ("oci://cr.example:5000/b@sha256:0", "oci://cr.example:5000/b@sha256:0"),
            ("nats://127.0.0.1:4222/c", "nats://127.0.0.1:4222/c"),
            ("file:a@b", "file:a@b"),
            ("", ""),
        ] {
            assert_eq!(without_password(address), shown);
        }
        let text = "cannot send to (http://a:secret@b/v1), nor\tto http://secret@c: no route";
        assert_eq!(
            without_passwords(text),
            "cannot send to (http://a:***@b/v1), nor\tto http://***@c: no route"
        );
    }
}
