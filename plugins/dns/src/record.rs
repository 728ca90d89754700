//! Resource records, and how their data are written in a zone file.

use crate::name::Name;

/// The types by number, as a zone file names them.
pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const OPT: u16 = 41;
/// In a question: all types.
pub const ANY: u16 = 255;

/// A record of class IN.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub owner: Name,
    pub kind: u16,
    pub ttl: u32,
    /// In wire format.
    pub data: Vec<u8>,
}

impl Record {
    /// The name that the data begin with, of a CNAME, NS or SOA record.
    pub fn target(&self) -> Option<Name> {
        Name::read(&self.data, &mut 0)
    }

    /// The MINIMUM of a SOA record, the last of its fields: how long a negative answer may be kept.
    pub fn minimum(&self) -> Option<u32> {
        self.data.last_chunk().map(|field| u32::from_be_bytes(*field))
    }
}

pub fn kind(word: &str) -> Option<u16> {
    Some(match word.to_ascii_uppercase().as_str() {
        "A" => A,
        "NS" => NS,
        "CNAME" => CNAME,
        "SOA" => SOA,
        "PTR" => PTR,
        "MX" => MX,
        "TXT" => TXT,
        "AAAA" => AAAA,
        _ => return None,
    })
}

/// The wire format of what follows the type.
pub fn data(kind: u16, words: &[&str], origin: &Name) -> Result<Vec<u8>, String> {
    let name = |text: &str| Name::parse(text, origin).map(|name| name.wire().to_vec());
    match (kind, words) {
        (A, [ip]) => Ok(parse::<std::net::Ipv4Addr>(ip)?.octets().to_vec()),
        (AAAA, [ip]) => Ok(parse::<std::net::Ipv6Addr>(ip)?.octets().to_vec()),
        (NS | CNAME | PTR, [target]) => name(target),
        (MX, [preference, exchange]) => {
            Ok([&parse::<u16>(preference)?.to_be_bytes()[..], &name(exchange)?].concat())
        }
        (SOA, [server, mailbox, serial, times @ ..]) if times.len() == 4 => {
            let mut data = [name(server)?, name(mailbox)?].concat();
            data.extend(parse::<u32>(serial)?.to_be_bytes());
            for time in times {
                data.extend(seconds(time).ok_or(format!("{time:?} is not a time"))?.to_be_bytes());
            }
            Ok(data)
        }
        (TXT, [_, ..]) => {
            let mut data = Vec::new();
            for text in words {
                let length = u8::try_from(text.len()).map_err(|_| "a TXT string has more than 255 bytes")?;
                data.push(length);
                data.extend(text.bytes());
            }
            // A record's length has two bytes.
            if data.len() > u16::MAX.into() { Err("the TXT record is too long".into()) } else { Ok(data) }
        }
        _ => Err("the type's data are incomplete, or too many".into()),
    }
}

/// Seconds, or with a unit: `30m`, `1h`, `2d`, `1w`.
pub fn seconds(text: &str) -> Option<u32> {
    let (digits, unit) = match text.char_indices().last()? {
        (end, 's' | 'S') => (&text[..end], 1),
        (end, 'm' | 'M') => (&text[..end], 60),
        (end, 'h' | 'H') => (&text[..end], 3600),
        (end, 'd' | 'D') => (&text[..end], 86_400),
        (end, 'w' | 'W') => (&text[..end], 604_800),
        _ => (text, 1),
    };
    digits.parse::<u32>().ok()?.checked_mul(unit)
}

fn parse<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is not what the type's data are made of"))
}
