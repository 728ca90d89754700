//! Mail addresses in commands (RFC 5321, 4.1.2 and 4.5.3.1).

/// Reads `<ADDRESS>`, which may have a source route, and returns the address and what follows. `<>` is the empty one.
pub fn read(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    // A route before the address is as good as none.
    let mailbox = match inside.starts_with('@') {
        true => inside.split_once(':').filter(|(route, _)| is_route(route))?.1,
        false => inside,
    };
    let end = end_of_local_part(mailbox)?;
    let (local, rest) = mailbox.split_at(end);
    let (domain, rest) = rest.split_once('>')?;
    let address = &mailbox[..local.len() + domain.len()];
    let is_good = match domain.strip_prefix('@') {
        Some(domain) => !local.is_empty() && local.len() <= 64 && is_domain(domain),
        // Every server has a postmaster (4.5.1).
        None => domain.is_empty() && (local.is_empty() || local.eq_ignore_ascii_case("postmaster")),
    };
    let is_routed_nowhere = address.is_empty() && inside.len() != mailbox.len();
    (is_good && !is_routed_nowhere).then_some((address, rest))
}

/// Whether this is a name of a host, or its address in brackets.
pub fn is_domain(text: &str) -> bool {
    if text.is_empty() || text.len() > 255 {
        return false;
    }
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(literal) => {
            !literal.is_empty() && literal.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
        }
        None => text.split('.').all(|label| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && !label.starts_with('-') && label.chars().all(allowed)
        }),
    }
}

fn is_route(route: &str) -> bool {
    route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(is_domain))
}

/// Where the part before the `@` ends: words with dots between, or a string in quotes.
fn end_of_local_part(mailbox: &str) -> Option<usize> {
    let Some(quoted) = mailbox.strip_prefix('"') else {
        let end = mailbox.find(['@', '>'])?;
        let words = &mailbox[..end];
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
        let is_good = words.split('.').all(|word| !word.is_empty() && word.chars().all(allowed));
        return (words.is_empty() || is_good).then_some(end);
    };
    let mut characters = quoted.char_indices();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return Some(index + 2),
            '\\' => _ = characters.next().filter(|(_, c)| matches!(c, ' '..='~'))?,
            ' '..='~' => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_rfc_writes_them() {
        for address in [
            "",
            "Postmaster",
            "ada@example.org",
            "a.b+c=d@[192.0.2.1]",
            "a@[IPv6:2001:db8::1]",
            "\"a b\\\">@\"@c.example",
        ] {
            assert_eq!(read(&format!("<{address}> SIZE=1")), Some((address, " SIZE=1")));
        }
        assert_eq!(read("<@a.example,@b.example:c@d.example>"), Some(("c@d.example", "")));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "ada@example.org",
            "<ada@example.org",
            "<ada>",
            "<@example.org>",
            "<@a.example:>",
            "<a@>",
            "<a@b@c>",
            "<a b@c>",
            "<a@b c>",
            "<.a@b>",
            "<a..b@c>",
            "<a@b..c>",
            "<\"a@b>",
            "<\"a\tb\"@c>",
            "<\"a\"b@c>",
            "<a\r\nb@c>",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(read(&format!("<{}@b>", "a".repeat(65))), None);
    }
}
