//! What is said on a control socket.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::status::{SlotStatus, Status};
use crate::error::one_line;
use crate::sandbox::Digest;
use crate::slot::Share;

/// The longest line that a client may send, in bytes.
pub(super) const REQUEST_MAX: usize = 64 * 1024;

/// What a client asks for. A slot need not be named where there is only one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// All that is known: answered by [`Answer::Status`].
    Status {},
    /// The versions that a slot has had, or every slot: [`Answer::Versions`].
    Versions {
        /// The slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<String>,
    },
    /// Put another version in place: [`Answer::Swapped`], when that is done.
    Swap {
        /// The slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<String>,
        /// The component's file, by its absolute path, or its reference in a registry.
        file: PathBuf,
        /// Take this component alone, also where the server was told another's digest.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "text")]
        digest: Option<Digest>,
        /// Give it this share of new requests until it is promoted or aborted.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "text")]
        canary: Option<Share>,
        /// Take a component that was rolled back before.
        #[serde(default)]
        force: bool,
    },
    /// Put the version before in place again: [`Answer::Swapped`].
    Rollback {
        /// The slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<String>,
    },
    /// Give the canary all new requests: [`Answer::Swapped`].
    Promote {
        /// The slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<String>,
    },
    /// Take the canary's share back: [`Answer::Swapped`].
    Abort {
        /// The slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<String>,
    },
    /// Stop accepting; what is open goes on: [`Answer::Draining`].
    Drain {},
    /// Accept again: [`Answer::Done`].
    Resume {},
    /// Load configuration, handlers and certificates again: [`Answer::Reloaded`], when that is done.
    Reload {},
    /// Have another process take over, and end as at the first signal: [`Answer::Upgraded`], when it serves.
    Upgrade {},
    /// End as at the first signal: [`Answer::Done`], at once.
    Shutdown {},
    /// Follow what happens: answered by an [`Event`](super::Event) a line, until the client goes or the server ends. What else
    /// the client says on this connection is not read.
    Events {},
    /// Log otherwise: [`Answer::Done`].
    LogLevel {
        /// A level, or `TARGET=LEVEL` pairs.
        filter: String,
    },
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// All that is known.
    Status(Status),
    /// The slots that were asked for, with their versions.
    Versions(Vec<SlotStatus>),
    /// Which version is in place now.
    Swapped(Published),
    /// All that was loaded again serves.
    Reloaded {
        /// What is different now, in words.
        changes: Vec<String>,
    },
    /// Another process has taken over.
    Upgraded {
        /// Its id.
        pid: u32,
    },
    /// No new requests are accepted.
    Draining {
        /// How many are still open.
        open: usize,
    },
    /// It is done.
    Done {
        /// What is to be known of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// It is not done.
    Error(Refusal),
}

/// The version that a swap, a rollback, a promotion or an abort came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The slot's name.
    pub slot: String,
    /// Whether it is another than before.
    pub is_changed: bool,
    /// Counts the slot's versions.
    pub generation: u64,
    /// SHA-256 of the component, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The sort of reason, for programs.
    pub kind: RefusalKind,
    /// The reason, for people.
    pub message: String,
}

/// Sorts of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// What came is no request.
    Malformed,
    /// The client runs as a user who has no say here.
    Forbidden,
    /// Too many clients are connected.
    Busy,
    /// The client said nothing for too long.
    Idle,
    /// The server cannot do it, or will not; it goes on as before.
    Refused,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn refused(message: impl fmt::Display) -> Self {
        Self::new(RefusalKind::Refused, message.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.message))
    }
}

/// Reads one line, without its line feed.
pub(super) fn parse_request(line: &[u8]) -> Result<Command, Refusal> {
    serde_json::from_slice(line).map_err(|error| {
        Refusal::new(
            RefusalKind::Malformed,
            format!("not a request: {error}; write one JSON object a line, as in {{\"command\":\"status\"}}"),
        )
    })
}

/// A value as one line, with its line feed.
pub(super) fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// A value as the text that a person would write.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Command> {
        let slot = || Some("echo".to_owned());
        vec![
            Command::Status {},
            Command::Versions { slot: None },
            Command::Swap { slot: None, file: "/a b.wasm".into(), digest: None, canary: None, force: false },
            Command::Swap {
                slot: slot(),
                file: "/\u{e9}\n.wasm".into(),
                digest: Some(Digest::of(b"")),
                canary: "0.5%".parse().ok(),
                force: true,
            },
            Command::Rollback { slot: slot() },
            Command::Promote { slot: None },
            Command::Abort { slot: slot() },
            Command::Drain {},
            Command::Resume {},
            Command::Reload {},
            Command::Upgrade {},
            Command::Shutdown {},
            Command::Events {},
            Command::LogLevel { filter: "info,guest=off".to_owned() },
        ]
    }

    #[test]
    fn a_request_is_one_line_and_reads_as_it_was_written() {
        for request in requests() {
            let line = line(&request).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(parse_request(&line[..line.len() - 1]).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_told_why() {
        for (line, word) in [
            ("", "EOF"),
            ("status", "expected"),
            ("[]", "command"),
            ("{}", "missing field `command`"),
            (r#"{"command":"nonsense"}"#, "unknown variant `nonsense`"),
            (r#"{"command":"status","more":1}"#, "more"),
            (r#"{"command":"swap"}"#, "missing field `file`"),
            (r#"{"command":"swap","file":"/a","files":1}"#, "files"),
            (r#"{"command":"swap","file":"/a","canary":"150%"}"#, "150%"),
            (r#"{"command":"swap","file":1}"#, "invalid type"),
            (r#"{"command":"status"}{"command":"status"}"#, "trailing"),
        ] {
            let refusal = parse_request(line.as_bytes()).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Malformed);
            assert!(refusal.message.contains(word), "{line}: {refusal}");
            assert!(refusal.message.contains(r#"{"command":"status"}"#), "{refusal}");
        }
    }

    /// Requests with bytes changed, added, dropped and doubled, the same ones in every run.
    #[test]
    fn no_bytes_harm_the_parser() {
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = |bound: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % bound as u64) as usize
        };
        let lines: Vec<_> = requests().iter().map(|request| line(request).unwrap()).collect();
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut bytes = lines[next(lines.len())].clone();
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                match next(5) {
                    0 => bytes[at] = next(256) as u8,
                    1 => bytes.insert(at, b"{}[]\",:\\\0\x80"[next(10)]),
                    2 => bytes.truncate(at.max(1)),
                    3 => bytes.extend_from_within(at..),
                    _ => bytes.extend_from_slice(&lines[next(lines.len())]),
                }
            }
            match parse_request(&bytes) {
                Ok(request) => {
                    accepted += 1;
                    assert_eq!(parse_request(&line(&request).unwrap()).unwrap(), request);
                }
                Err(refusal) => assert!(!refusal.to_string().contains('\n')),
            }
        }
        assert!(accepted > 0);
        // Deeper than the stack would hold.
        assert!(parse_request("[".repeat(REQUEST_MAX).as_bytes()).is_err());
    }
}
