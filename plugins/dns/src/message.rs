//! DNS messages (RFC 1035, 4; EDNS: RFC 6891).

use crate::name::Name;
use crate::record::{OPT, Record};

pub const NOERROR: u16 = 0;
pub const FORMERR: u16 = 1;
pub const SERVFAIL: u16 = 2;
pub const NXDOMAIN: u16 = 3;
pub const NOTIMP: u16 = 4;
pub const REFUSED: u16 = 5;
/// The client's EDNS is newer than this server's.
pub const BADVERS: u16 = 16;

/// What this server says that it takes by UDP: what travels unfragmented everywhere.
const UDP_SIZE: u16 = 1232;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;

/// The part of a packet that says whether and how to answer it.
pub struct Header {
    id: u16,
    flags: u16,
    /// How many questions, answers, authority and additional records follow.
    counts: [u16; 4],
}

/// A question, in class IN unless `class` says otherwise.
pub struct Query {
    pub name: Name,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
    /// As it came: its letters' case is sent back.
    question: Vec<u8>,
}

/// What a client says in an OPT record.
pub struct Edns {
    pub version: u8,
    /// How long a UDP answer may be.
    pub size: u16,
}

/// What is answered.
#[derive(Default)]
pub struct Reply {
    pub code: u16,
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Header {
    pub const LENGTH: usize = 12;

    pub fn read(packet: &[u8]) -> Option<Self> {
        let mut position = 0;
        let mut field = || read_u16(packet, &mut position);
        Some(Header { id: field()?, flags: field()?, counts: [field()?, field()?, field()?, field()?] })
    }

    pub fn is_response(&self) -> bool {
        self.flags & RESPONSE != 0
    }

    /// Whether this is an ordinary question, and not a NOTIFY, an UPDATE or the like.
    pub fn is_query(&self) -> bool {
        self.flags & OPCODE == 0
    }
}

impl Query {
    /// Reads what follows the header.
    pub fn read(header: &Header, packet: &[u8]) -> Option<Self> {
        let [1, answers, authority, additional] = header.counts else { return None };
        let mut position = Header::LENGTH;
        let name = Name::read(packet, &mut position)?;
        let kind = read_u16(packet, &mut position)?;
        let class = read_u16(packet, &mut position)?;
        let question = packet[Header::LENGTH..position].to_vec();
        let mut edns = None;
        for index in 0..u32::from(answers) + u32::from(authority) + u32::from(additional) {
            let owner = Name::read(packet, &mut position)?;
            let record = read_u16(packet, &mut position)?;
            let size = read_u16(packet, &mut position)?;
            let [_, version, ..] = *packet.get(position..position + 4)? else { return None };
            position += 4;
            position += usize::from(read_u16(packet, &mut position)?);
            if position > packet.len() {
                return None;
            }
            if record == OPT {
                let in_additional = index >= u32::from(answers) + u32::from(authority);
                if edns.is_some() || owner != Name::root() || !in_additional {
                    return None;
                }
                edns = Some(Edns { version, size });
            }
        }
        Some(Query { name, kind, class, edns, question })
    }
}

impl Reply {
    pub fn error(code: u16) -> Self {
        Reply { code, ..Reply::default() }
    }

    /// The packet. Longer than `limit` it is sent without records, marked as truncated: the client asks
    /// again by TCP.
    pub fn encode(&self, header: &Header, query: Option<&Query>, limit: usize) -> Vec<u8> {
        let packet = self.encode_all(header, query, 0);
        if packet.len() <= limit {
            return packet;
        }
        let empty = Reply { code: self.code, authoritative: self.authoritative, ..Reply::default() };
        empty.encode_all(header, query, TRUNCATED)
    }

    fn encode_all(&self, header: &Header, query: Option<&Query>, truncated: u16) -> Vec<u8> {
        let edns = query.is_some_and(|query| query.edns.is_some());
        let authoritative = if self.authoritative { AUTHORITATIVE } else { 0 };
        let copied = header.flags & (OPCODE | RECURSION_DESIRED);
        let flags = RESPONSE | copied | authoritative | truncated | (self.code & 0xf);
        let additional = self.additional.len() + usize::from(edns);
        let counts = [usize::from(query.is_some()), self.answers.len(), self.authority.len(), additional];
        let mut packet = Vec::new();
        for field in [header.id, flags].into_iter().chain(counts.map(|count| count as u16)) {
            packet.extend(field.to_be_bytes());
        }
        if let Some(query) = query {
            packet.extend(&query.question);
        }
        for record in [&self.answers, &self.authority, &self.additional].into_iter().flatten() {
            match query {
                // A pointer to the question: the one compression that always pays.
                Some(query) if query.name == record.owner => packet.extend([0xc0, Header::LENGTH as u8]),
                _ => packet.extend(record.owner.wire()),
            }
            packet.extend(record.kind.to_be_bytes());
            packet.extend([0, 1]); // IN
            packet.extend(record.ttl.to_be_bytes());
            packet.extend((record.data.len() as u16).to_be_bytes());
            packet.extend(&record.data);
        }
        if edns {
            packet.push(0); // the root's name
            packet.extend(OPT.to_be_bytes());
            packet.extend(UDP_SIZE.to_be_bytes());
            packet.extend([(self.code >> 4) as u8, 0, 0, 0]);
            packet.extend([0, 0]); // no options
        }
        packet
    }
}

fn read_u16(packet: &[u8], position: &mut usize) -> Option<u16> {
    let field = packet.get(*position..)?.first_chunk()?;
    *position += 2;
    Some(u16::from_be_bytes(*field))
}
