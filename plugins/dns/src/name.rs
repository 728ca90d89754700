//! Domain names.

/// A domain name in wire format, without compression and in lower case: names are compared without case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name(Vec<u8>);

/// RFC 1035, 2.3.4.
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: usize = 63;

impl Name {
    pub fn root() -> Self {
        Name(vec![0])
    }

    /// `www.example.org.`, `www` within `origin`, or `@` for `origin` itself.
    pub fn parse(text: &str, origin: &Name) -> Result<Self, String> {
        if text == "@" {
            return Ok(origin.clone());
        }
        let (labels, parent) = match text.strip_suffix('.') {
            Some(absolute) => (absolute, &Name::root()),
            None => (text, origin),
        };
        let mut name = Vec::new();
        for label in labels.split('.').filter(|_| text != ".") {
            let allowed = |b: u8| b.is_ascii_graphic() && !b"\\\"();".contains(&b);
            if label.is_empty() || label.len() > LONGEST_LABEL || !label.bytes().all(allowed) {
                return Err(format!("{text:?} is not a domain name"));
            }
            name.push(label.len() as u8);
            name.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        name.extend(&parent.0);
        if name.len() > LONGEST_NAME {
            return Err(format!("{text:?} is longer than a domain name may be"));
        }
        Ok(Name(name))
    }

    /// Reads the name at `position` of a packet and moves the position behind it.
    pub fn read(packet: &[u8], position: &mut usize) -> Option<Self> {
        let mut name = Vec::new();
        let mut at = *position;
        let mut end = None;
        // A pointer may only point back, so that names end.
        let mut bound = at;
        loop {
            match *packet.get(at)? {
                0 => break,
                length @ 1..=63 => {
                    let next = at + 1 + usize::from(length);
                    name.extend(packet.get(at..next)?.iter().map(u8::to_ascii_lowercase));
                    at = next;
                }
                high @ 0xc0.. => {
                    end.get_or_insert(at + 2);
                    at = usize::from(high & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                    if at >= bound {
                        return None;
                    }
                    bound = at;
                }
                _ => return None,
            }
            if name.len() >= LONGEST_NAME {
                return None;
            }
        }
        name.push(0);
        *position = end.unwrap_or(at + 1);
        Some(Name(name))
    }

    /// As it stands in a packet.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name without its first label; the root has none.
    pub fn parent(&self) -> Option<Name> {
        let length = usize::from(self.0[0]);
        (length > 0).then(|| Name(self.0[length + 1..].to_vec()))
    }

    /// The name itself, its parent, and so on up to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Name> {
        std::iter::successors(Some(self.clone()), Name::parent)
    }

    pub fn is_within(&self, zone: &Name) -> bool {
        self.ancestors().any(|ancestor| ancestor == *zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let origin = Name::parse("Example.ORG.", &Name::root()).unwrap();
        assert_eq!(origin.wire(), b"\x07example\x03org\0");
        let www = Name::parse("www", &origin).unwrap();
        assert_eq!(www.wire(), b"\x03www\x07example\x03org\0");
        assert_eq!(Name::parse("@", &origin).unwrap(), origin);
        assert_eq!(Name::parse(".", &origin).unwrap(), Name::root());
        assert!(www.is_within(&origin) && !origin.is_within(&www));
        for bad in ["", "a..b", ".a", "a b", &"x".repeat(64), &"x.".repeat(200)] {
            assert!(Name::parse(bad, &origin).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pointers_are_followed_back_and_never_round() {
        let packet = b"\x03ORG\0\x01a\xc0\x00\xc0\x09";
        let mut position = 5;
        assert_eq!(Name::read(packet, &mut position).unwrap().wire(), b"\x01a\x03org\0");
        assert_eq!(position, 9);
        assert_eq!(Name::read(packet, &mut position), None);
        assert_eq!(Name::read(b"\xc0\x00", &mut 0), None);
        assert_eq!(Name::read(b"\x01a\xc0\x00", &mut 0), None);
        assert_eq!(Name::read(&b"\x3f".repeat(300), &mut 0), None);
    }
}
