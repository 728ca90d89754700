//! What operators and hosts tell each other: small records in JSON that say their format, each under a key of its own.
//!
//! ```text
//!  plugsock-fleet   desired.GROUP.SLOT   what is to serve, and how it gets there      written by operators
//!                   desired.GROUP.=program   the same of the program itself           written by operators
//!                   drain.GROUP.HOST     who is to accept nothing                     written by operators
//!                   rollout.GROUP.SLOT   how far it is, and what was refused          written by the host that drives it
//!  plugsock-hosts   status.GROUP.HOST    what a host serves; gone with it             written by that host
//!                   status.GROUP.HOST=INSTANCE   the same of one whose name is another's
//!                   lease.GROUP          who drives                                   written by hosts
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};
use plugsock::control::ServerState;
use plugsock::{Digest, Probe, RollbackPolicy, Share};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The newest format of records that is known here. A record says the oldest that has all of what it says, so that hosts of
/// several versions are one fleet.
pub const FORMAT: u32 = 2;

/// What every version knows.
pub const FIRST_FORMAT: u32 = 1;

/// What stands in the place of a slot where the program itself is meant; no slot that records can name is called so.
pub const PROGRAM: &str = "=program";

/// The longest record that is looked at.
pub const RECORD_MAX: usize = 512 << 10;

/// Key-value pairs by which hosts are told apart.
pub type Labels = BTreeMap<String, String>;

/// Whether a host with these labels is one of those that are meant.
pub fn covers(only: &Labels, labels: &Labels) -> bool {
    only.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A component or a program, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub digest: Digest,
    /// What it is called.
    pub name: String,
    /// `oci://…`; without it, the bytes are in the object store under their digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of minisign; an artifact in a registry may have others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What a slot of a group is to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub format: u32,
    /// Counts the roll-outs.
    pub generation: u64,
    pub target: Version,
    /// The last is always all.
    #[serde(with = "texts")]
    pub stages: Vec<Stage>,
    /// Each stage must get by this to be followed by the next.
    #[serde(with = "text")]
    pub gate: RollbackPolicy,
    /// It is for hosts with these labels alone.
    #[serde(default)]
    pub only: Labels,
    /// What hosts serve that do not have the target: the first that covers them; others serve their own.
    #[serde(default)]
    pub base: Vec<Layer>,
    /// No further host gets it for now.
    #[serde(default)]
    pub is_paused: bool,
    /// Nobody is to have it any more.
    #[serde(default)]
    pub is_rolled_back: bool,
    /// It may have been refused before.
    #[serde(default)]
    pub is_forced: bool,
    /// What the target must serve on each host, besides the host's own probe. Of format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Trial>,
}

impl Desired {
    /// The oldest format that has all of it.
    pub fn format(&self) -> u32 {
        if self.probe.is_some() { 2 } else { FIRST_FORMAT }
    }
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    input: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected_status: Option<u16>,
}

impl From<Probe> for Trial {
    fn from(Probe { input, expected, expected_status }: Probe) -> Self {
        Self { input: Bytes(input), expected: expected.map(Bytes), expected_status }
    }
}

impl From<Trial> for Probe {
    fn from(Trial { input, expected, expected_status }: Trial) -> Self {
        Self { input: input.0, expected: expected.map(|expected| expected.0), expected_status }
    }
}

/// Bytes, in base64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Bytes(Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64_STANDARD.decode(text).map(Self)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        BASE64_STANDARD.encode(bytes.0)
    }
}

/// What was rolled out before to hosts with these labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    #[serde(default)]
    pub only: Labels,
    pub version: Version,
}

/// How far a roll-out is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub format: u32,
    /// Which roll-out it is.
    pub generation: u64,
    pub progress: Progress,
    /// The number of the stage.
    pub stage: usize,
    /// The hosts that may take the target; in the last stage it is all, and none is listed.
    #[serde(default)]
    pub allowed: BTreeSet<String>,
    /// How many hosts it may come to.
    #[serde(default)]
    pub eligible: usize,
    /// How many that were allowed to take it have gone since.
    #[serde(default)]
    pub lost: usize,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was rolled back in this slot, the newest last.
    #[serde(default)]
    pub refused: Vec<Refused>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    Running,
    Complete,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    pub digest: Digest,
    pub reason: String,
}

/// That a host is to accept nothing; its presence says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    pub format: u32,
}

/// What a host says of itself, again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    pub format: u32,
    pub host: String,
    pub group: String,
    /// Tells it from another of its name; hosts of format 1 may not say it.
    #[serde(default)]
    pub instance: String,
    #[serde(default)]
    pub labels: Labels,
    /// The version of Plugsock.
    pub version: String,
    /// Whether its servers accept: the least that any of them does.
    pub state: ServerState,
    pub open: usize,
    pub slots: BTreeMap<String, SlotStatus>,
    /// What it cannot do at the moment.
    #[serde(default)]
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// What serves.
    pub digest: String,
    /// The roll-out that it has heeded last.
    #[serde(default)]
    pub generation: u64,
    /// Requests to this version that have ended, and those of them that failed.
    pub ended: u64,
    pub failed: u64,
    /// Why it does not take that roll-out's target, or no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl SlotStatus {
    /// Whether it serves the target.
    pub fn has(&self, desired: &Desired) -> bool {
        self.generation == desired.generation && self.digest == desired.target.digest.to_string()
    }
}

/// How many hosts have a target at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Hosts(usize),
    Share(Share),
}

impl Stage {
    pub const ALL: &str = "all";

    pub fn is_all(self) -> bool {
        matches!(self, Self::Share(share) if share.hundredths() == 10_000)
    }

    /// How many hosts of so many, one at least.
    pub fn count(self, eligible: usize) -> usize {
        match self {
            Self::Hosts(count) => count,
            Self::Share(share) => (eligible * usize::from(share.hundredths())).div_ceil(10_000),
        }
        .clamp(1, eligible.max(1))
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            Self::ALL => "100%".parse().map(Self::Share),
            share if share.ends_with('%') => share.parse().map(Self::Share),
            count => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::Hosts(count)),
                _ => Err(format!(
                    "'{count}' is no stage: write a number of hosts, a share or `all`, as in 1,10%,50%,all"
                )),
            },
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            all if all.is_all() => f.write_str(Self::ALL),
            Self::Hosts(count) => count.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

/// Reads a record; why not, in words.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct AnyFormat {
        format: u32,
    }
    if bytes.len() > RECORD_MAX {
        return Err(format!("it is longer than {RECORD_MAX} bytes"));
    }
    let malformed = |error: serde_json::Error| format!("it is malformed: {error}");
    let AnyFormat { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if format > FORMAT {
        return Err(format!(
            "it is of format {format}, and this version of Plugsock knows {FORMAT}: it takes a newer one to heed it"
        ));
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Whether a text can be part of a key: a group, a host or a slot.
pub fn check_name(text: &str) -> Result<String, String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let is_good =
        text.len() <= 128 && text.chars().all(is_plain) && text.split('.').all(|part| !part.is_empty());
    is_good.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "'{text}' cannot be a name in a fleet: write letters, digits, '-', '_' and single dots within"
        )
    })
}

/// The same without dots, which groups have not.
pub fn check_group(text: &str) -> Result<String, String> {
    match text.contains('.') {
        true => Err(format!("'{text}' cannot be a group: write letters, digits, '-' and '_'")),
        false => check_name(text),
    }
}

/// Values as their own text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Several of them.
mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_and_count_hosts() {
        for (text, of_ten, of_none) in
            [("1", 1, 1), ("3", 3, 1), ("10%", 1, 1), ("15%", 2, 1), ("all", 10, 1), ("20", 10, 1)]
        {
            let stage: Stage = text.parse().unwrap();
            assert_eq!((stage.count(10), stage.count(0)), (of_ten, of_none), "{text}");
            assert_eq!(stage.to_string(), text);
        }
        for wrong in ["", "0", "-1", "0%", "101%", "some", "1.5"] {
            assert!(wrong.parse::<Stage>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_tried_is_written_as_it_was() {
        let probe =
            Probe { input: b"a\0\xff".to_vec(), expected: Some(b"b".to_vec()), expected_status: Some(204) };
        let trial = Trial::from(probe);
        let text = serde_json::to_string(&trial).unwrap();
        assert_eq!(text, r#"{"input":"YQD/","expected":"Yg==","expected_status":204}"#);
        assert_eq!(serde_json::from_str::<Trial>(&text).unwrap(), trial);
        assert!(serde_json::from_str::<Trial>(r#"{"input":"?"}"#).is_err());
    }

    #[test]
    fn names_are_parts_of_keys() {
        for good in ["web", "a-1_b", "host.example.org"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for wrong in ["", ".", "a..b", ".a", "a.", "a b", "a*", "a>", "ä", PROGRAM] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        assert!(check_group("a.b").is_err());
    }

    #[test]
    fn a_record_says_its_format_and_may_say_more() {
        assert_eq!(parse(br#"{"format":1,"more":[1]}"#), Ok(Drain { format: 1 }));
        let reason = |text: &str| parse::<Drain>(text.as_bytes()).unwrap_err();
        assert!(reason(r#"{"format":3}"#).contains("it is of format 3"));
        // Whatever else a later format says.
        assert!(parse::<Desired>(br#"{"format":9,"generation":"x"}"#).unwrap_err().contains("format 9"));
        for wrong in ["", "{}", "[]", "nonsense", r#"{"format":"1"}"#, r#"{"format":-1}"#] {
            assert!(reason(wrong).contains("malformed"), "{wrong}");
        }
        assert!(reason(&" ".repeat(RECORD_MAX + 1)).contains("longer than"));
    }
}
