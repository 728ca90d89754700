//! Zones, and the files that they are read from: the subset of RFC 1035's master files in `README.md`.

use std::collections::BTreeMap;

use crate::name::Name;
use crate::record::{self, Record, SOA};

/// How long a record may be kept if neither it nor `$TTL` says.
const DEFAULT_TTL: u32 = 3600;

/// What this server knows all about, below one name.
#[derive(Debug)]
pub struct Zone {
    /// Also says where the zone begins.
    pub soa: Record,
    records: BTreeMap<Name, Vec<Record>>,
}

impl Zone {
    /// Reads a zone file. An error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut origin = Name::root();
        let mut default_ttl = DEFAULT_TTL;
        let mut owner = None;
        let mut records: BTreeMap<Name, Vec<Record>> = BTreeMap::new();
        for entry in entries(text)? {
            let Entry { line, indented, words } = entry;
            let at_line = |error: String| format!("line {line}: {error}");
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["$ORIGIN", name] => origin = Name::parse(name, &origin).map_err(at_line)?,
                ["$TTL", ttl] => {
                    default_ttl =
                        record::seconds(ttl).ok_or_else(|| at_line(format!("{ttl:?} is not a time")))?;
                }
                [directive, ..] if directive.starts_with('$') => {
                    return Err(at_line(format!("{directive} is not supported")));
                }
                _ => {
                    let (name, fields) =
                        if indented { (None, &words[..]) } else { (Some(words[0]), &words[1..]) };
                    if let Some(name) = name {
                        owner = Some(Name::parse(name, &origin).map_err(at_line)?);
                    }
                    let owner =
                        owner.clone().ok_or_else(|| at_line("the first record has no name".into()))?;
                    let record = record_of(owner, fields, default_ttl, &origin).map_err(at_line)?;
                    records.entry(record.owner.clone()).or_default().push(record);
                }
            }
        }
        let soa = records.values().flatten().find(|record| record.kind == SOA);
        let soa = soa.ok_or("the zone has no SOA record")?.clone();
        match records.keys().find(|name| !name.is_within(&soa.owner)) {
            Some(_) => Err("the zone has records outside its SOA record's name".to_owned()),
            None => Ok(Zone { soa, records }),
        }
    }

    pub fn origin(&self) -> &Name {
        &self.soa.owner
    }

    /// All records with this name.
    pub fn records(&self, name: &Name) -> &[Record] {
        self.records.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the name exists: it has records, or a name below it has.
    pub fn has(&self, name: &Name) -> bool {
        self.records.keys().any(|owner| owner.is_within(name))
    }
}

/// `[TTL] [IN] TYPE DATA…`, where class and time-to-live may change places.
fn record_of(owner: Name, fields: &[&str], default_ttl: u32, origin: &Name) -> Result<Record, String> {
    let mut ttl = default_ttl;
    let mut fields = fields;
    while let [field, rest @ ..] = fields {
        if let Some(kind) = record::kind(field) {
            let data = record::data(kind, rest, origin)?;
            return Ok(Record { owner, kind, ttl, data });
        }
        match record::seconds(field) {
            Some(seconds) => ttl = seconds,
            None if field.eq_ignore_ascii_case("IN") => {}
            None => return Err(format!("{field:?} is not a type that this server knows")),
        }
        fields = rest;
    }
    Err("the record has no type".into())
}

/// A line of a zone file, or several that parentheses join.
#[derive(Default)]
struct Entry {
    /// Where it begins, from 1.
    line: usize,
    /// Without a name of its own, a record has the name of the one before.
    indented: bool,
    words: Vec<String>,
}

fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut entry = Entry::default();
    let mut open = 0_usize;
    for (index, line) in text.lines().enumerate() {
        if open == 0 {
            entry = Entry { line: index + 1, indented: line.starts_with([' ', '\t']), words: Vec::new() };
        }
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            rest = match first {
                ';' => "",
                '(' => {
                    open += 1;
                    &rest[1..]
                }
                ')' => {
                    open = open.checked_sub(1).ok_or(format!("line {}: no ( before )", index + 1))?;
                    &rest[1..]
                }
                '"' => {
                    let (word, rest) =
                        quoted(&rest[1..]).ok_or(format!("line {}: no closing quote", index + 1))?;
                    entry.words.push(word);
                    rest
                }
                _ => {
                    let end = rest.find([' ', '\t', ';', '(', ')', '"']).unwrap_or(rest.len());
                    entry.words.push(rest[..end].to_owned());
                    &rest[end..]
                }
            }
            .trim_start();
        }
        if open == 0 && !entry.words.is_empty() {
            entries.push(std::mem::take(&mut entry));
        }
    }
    if open > 0 { Err(format!("line {}: no ) after (", entry.line)) } else { Ok(entries) }
}

/// A string up to its closing quote, where a backslash keeps the next character from ending it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((word, chars.as_str())),
            '\\' => word.push(chars.next()?),
            c => word.push(c),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::{A, MX, TXT};

    pub(crate) const EXAMPLE: &str = include_str!("../example.org.zone");

    fn name(text: &str) -> Name {
        Name::parse(text, &Name::root()).unwrap()
    }

    #[test]
    fn the_example_reads() {
        let zone = Zone::parse(EXAMPLE).unwrap();
        assert_eq!(*zone.origin(), name("example.org."));
        assert_eq!(zone.soa.minimum(), Some(300));
        let www = zone.records(&name("www.example.org."));
        assert_eq!((www[0].kind, www[0].ttl, &www[0].data[..]), (A, 60, &[192, 0, 2, 80][..]));
        let texts = zone.records(&name("text.example.org."));
        assert_eq!((texts[0].kind, &texts[0].data[..]), (TXT, &b"\x0bhello \"you\"\x05there"[..]));
        assert_eq!(zone.records(&name("example.org."))[3].kind, MX);
        assert!(zone.has(&name("deep.example.org.")) && zone.records(&name("deep.example.org.")).is_empty());
    }

    #[test]
    fn errors_name_the_line() {
        for (text, error) in [
            ("$ORIGIN a.\n@ A 1.2.3", "line 2: \"1.2.3\" is not what"),
            ("  A 1.2.3.4", "line 1: the first record has no name"),
            ("\n\na. NONE x", "line 3: \"NONE\" is not a type"),
            ("a. IN 60", "line 1: the record has no type"),
            ("a. SOA a. b. (1 2 3", "line 1: no ) after ("),
            ("a. TXT \"b", "line 1: no closing quote"),
            ("a. A 1.2.3.4 )", "line 1: no ( before )"),
            ("$INCLUDE x", "line 1: $INCLUDE is not supported"),
            ("a. A 1.2.3.4", "the zone has no SOA"),
            ("a. SOA a. b. 1 2 3 4 5\nb. A 1.2.3.4", "the zone has records outside"),
        ] {
            let message = Zone::parse(text).unwrap_err();
            assert!(message.starts_with(error), "{message}");
        }
    }
}
