//! From a packet to the packet that answers it.

use crate::message::*;
use crate::name::Name;
use crate::record::{A, AAAA, ANY, CNAME, NS, Record};
use crate::zone::Zone;

/// By TCP, where two bytes say how long a message is.
pub const TCP_LIMIT: usize = 65_535;

/// By UDP, for clients without EDNS.
pub const UDP_LIMIT: usize = 512;

/// By UDP at most, whatever a client says: larger packets are fragmented, and fragments get lost.
const MOST_BY_UDP: usize = 1232;

/// Answers a packet, from the zones if they could be read. What is no query at all gets no answer: to answer
/// an answer would start a loop.
pub fn answer(packet: &[u8], zones: Option<&[Zone]>, limit: usize) -> Option<Vec<u8>> {
    let header = Header::read(packet).filter(|header| !header.is_response())?;
    if !header.is_query() {
        return Some(Reply::error(NOTIMP).encode(&header, None, limit));
    }
    let Some(query) = Query::read(&header, packet) else {
        return Some(Reply::error(FORMERR).encode(&header, None, limit));
    };
    let limit = match &query.edns {
        Some(edns) if limit == UDP_LIMIT => usize::from(edns.size).clamp(UDP_LIMIT, MOST_BY_UDP),
        _ => limit,
    };
    let reply = match zones {
        _ if query.edns.as_ref().is_some_and(|edns| edns.version > 0) => Reply::error(BADVERS),
        Some(zones) => look_up(&query, zones),
        None => Reply::error(SERVFAIL),
    };
    Some(reply.encode(&header, Some(&query), limit))
}

/// RFC 1034, 4.3.2, without recursion and wildcards.
fn look_up(query: &Query, zones: &[Zone]) -> Reply {
    let zones_above = zones.iter().filter(|zone| query.name.is_within(zone.origin()));
    // The more labels, the longer: the zone nearest to the name.
    let Some(zone) = zones_above.max_by_key(|zone| zone.origin().wire().len()) else {
        return Reply::error(REFUSED);
    };
    if ![1, ANY].contains(&query.class) {
        return Reply::error(REFUSED);
    }
    let mut reply = Reply { authoritative: true, ..Reply::default() };
    let mut name = query.name.clone();
    loop {
        if let Some(servers) = delegation(zone, &name) {
            // The authority for an alias that was found on the way stays.
            reply.authoritative = !reply.answers.is_empty();
            reply.additional = glue(zone, &servers);
            reply.authority = servers;
            return reply;
        }
        let records = zone.records(&name);
        let wanted = |record: &&Record| query.kind == ANY || query.kind == record.kind;
        let found: Vec<Record> = records.iter().filter(wanted).cloned().collect();
        if !found.is_empty() {
            reply.answers.extend(found);
            return reply;
        }
        let Some(alias) = records.iter().find(|record| record.kind == CNAME) else {
            reply.code = if zone.has(&name) { NOERROR } else { NXDOMAIN };
            reply.authority = vec![nothing(zone)];
            return reply;
        };
        if reply.answers.contains(alias) {
            return reply; // a loop
        }
        reply.answers.push(alias.clone());
        match alias.target() {
            Some(target) if target.is_within(zone.origin()) => name = target,
            _ => return reply,
        }
    }
}

/// The servers of the zone below this one that `name` lies in, if there is one.
fn delegation(zone: &Zone, name: &Name) -> Option<Vec<Record>> {
    let below = name.ancestors().take_while(|ancestor| ancestor != zone.origin());
    let servers = below.map(|name| of_kind(zone, &name, NS)).filter(|servers| !servers.is_empty());
    servers.last()
}

/// The addresses of name servers, so far as this zone has them.
fn glue(zone: &Zone, servers: &[Record]) -> Vec<Record> {
    let names = servers.iter().filter_map(Record::target);
    names.flat_map(|name| [of_kind(zone, &name, A), of_kind(zone, &name, AAAA)].concat()).collect()
}

fn of_kind(zone: &Zone, name: &Name, kind: u16) -> Vec<Record> {
    zone.records(name).iter().filter(|record| record.kind == kind).cloned().collect()
}

/// The record that says how long it may be kept that there is nothing (RFC 2308, 3).
fn nothing(zone: &Zone) -> Record {
    let soa = zone.soa.clone();
    let ttl = soa.ttl.min(soa.minimum().unwrap_or(0));
    Record { ttl, ..soa }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MX, OPT, SOA, TXT};
    use crate::zone::tests::EXAMPLE;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut packet = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0".to_vec();
        packet.extend(Name::parse(name, &Name::root()).unwrap().wire());
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        packet
    }

    fn with_edns(mut packet: Vec<u8>, size: u16, version: u8) -> Vec<u8> {
        packet[11] += 1;
        packet.push(0);
        packet.extend(OPT.to_be_bytes());
        packet.extend(size.to_be_bytes());
        packet.extend([0, version, 0, 0, 0, 0]);
        packet
    }

    fn ask(packet: &[u8], limit: usize) -> Vec<u8> {
        answer(packet, Some(&[Zone::parse(EXAMPLE).unwrap()]), limit).unwrap()
    }

    /// The code, the flags AA and TC, and how many answer, authority and additional records there are.
    fn summary(reply: &[u8]) -> (u8, bool, bool, [u8; 3]) {
        assert_eq!(reply[..2], [0x12, 0x34]);
        (reply[3] & 0xf, reply[2] & 4 != 0, reply[2] & 2 != 0, [reply[7], reply[9], reply[11]])
    }

    #[test]
    fn records_are_found() {
        let reply = ask(&query("WWW.example.org.", A), UDP_LIMIT);
        assert_eq!(summary(&reply), (0, true, false, [1, 0, 0]));
        assert!(reply.ends_with(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x50"));
        for (name, kind, answers) in [
            ("example.org.", SOA, 1),
            ("example.org.", NS, 2),
            ("example.org.", MX, 1),
            ("www.example.org.", ANY, 2),
            ("text.example.org.", TXT, 1),
            ("web.example.org.", AAAA, 2),
            ("web.example.org.", CNAME, 1),
            ("elsewhere.example.org.", A, 1),
            ("loop.example.org.", A, 1),
        ] {
            let reply = ask(&query(name, kind), UDP_LIMIT);
            assert_eq!(summary(&reply), (0, true, false, [answers, 0, 0]), "{name} {kind}");
        }
    }

    #[test]
    fn nothing_is_told_from_nobody() {
        let code = |name, kind| summary(&ask(&query(name, kind), UDP_LIMIT));
        assert_eq!(code("www.example.org.", TXT), (0, true, false, [0, 1, 0]));
        assert_eq!(code("deep.example.org.", A), (0, true, false, [0, 1, 0]));
        assert_eq!(code("none.example.org.", A), (3, true, false, [0, 1, 0]));
        assert_eq!(code("example.com.", A), (5, false, false, [0, 0, 0]));
        assert_eq!(code("host.sub.example.org.", A), (0, false, false, [0, 1, 1]));
    }

    #[test]
    fn long_answers_are_left_to_tcp_or_edns() {
        let texts: String = (0..8).map(|i| format!("\nlong TXT {i}{}", "x".repeat(120))).collect();
        let zones = [Zone::parse(&format!("{EXAMPLE}{texts}")).unwrap()];
        let packet = query("long.example.org.", TXT);
        let ask = |packet: &[u8], limit| summary(&answer(packet, Some(&zones), limit).unwrap());
        assert_eq!(ask(&packet, UDP_LIMIT), (0, true, true, [0, 0, 0]));
        assert_eq!(ask(&packet, TCP_LIMIT), (0, true, false, [8, 0, 0]));
        assert_eq!(ask(&with_edns(packet.clone(), 1232, 0), UDP_LIMIT), (0, true, false, [8, 0, 1]));
        assert_eq!(ask(&with_edns(packet.clone(), 600, 0), UDP_LIMIT), (0, true, true, [0, 0, 1]));
        assert_eq!(ask(&with_edns(packet, 0, 0), UDP_LIMIT), (0, true, true, [0, 0, 1]));
    }

    #[test]
    fn what_cannot_be_answered_gets_its_code() {
        let www = query("www.example.org.", A);
        let bad_version = ask(&with_edns(www.clone(), 1232, 1), UDP_LIMIT);
        assert_eq!(summary(&bad_version), (0, false, false, [0, 0, 1]));
        assert!(bad_version.ends_with(b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"));
        let changed = |index: usize, byte| {
            let mut packet = www.clone();
            packet[index] = byte;
            answer(&packet, Some(&[]), UDP_LIMIT).map(|reply| summary(&reply).0)
        };
        assert_eq!(changed(2, 0x28), Some(NOTIMP as u8));
        assert_eq!(changed(2, 0x80), None);
        assert_eq!(changed(5, 2), Some(FORMERR as u8));
        assert_eq!(changed(11, 1), Some(FORMERR as u8));
        assert_eq!(changed(12, 0x80), Some(FORMERR as u8));
        assert_eq!(answer(&www[..11], Some(&[]), UDP_LIMIT), None);
        assert_eq!(answer(&www, None, UDP_LIMIT).map(|reply| reply[3]), Some(SERVFAIL as u8));
        let two_opts = with_edns(with_edns(www, 512, 0), 512, 0);
        assert_eq!(summary(&ask(&two_opts, UDP_LIMIT)).0, FORMERR as u8);
    }

    #[test]
    fn no_packet_makes_it_panic() {
        let zones = [Zone::parse(EXAMPLE).unwrap()];
        let valid = with_edns(query("www.example.org.", A), 1232, 0);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for round in 0..200_000 {
            let mut packet = valid.clone();
            if round % 4 == 0 {
                packet = (0..random() % 64).map(|_| random() as u8).collect();
            }
            for _ in 0..random() % 6 {
                if !packet.is_empty() {
                    let index = random() % packet.len();
                    packet[index] = random() as u8;
                }
            }
            packet.truncate(random() % 80);
            if let Some(reply) = answer(&packet, Some(&zones), UDP_LIMIT) {
                assert!((Header::LENGTH..=MOST_BY_UDP).contains(&reply.len()));
            }
        }
    }
}
