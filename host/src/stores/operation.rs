//! What a handler may ask of a store, and what it is answered.

use serde::{Deserialize, Serialize};

/// One call of a handler's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// Whether there is such a store.
    Open,
    Get(String),
    Exists(String),
    /// A page of keys, from where the cursor says.
    List(Option<String>),
    GetMany(Vec<String>),
    Set(String, Vec<u8>),
    Delete(String),
    Increment(String, i64),
    /// Replaces the value, if it is still the one expected.
    Swap {
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    },
    SetMany(Vec<(String, Vec<u8>)>),
    DeleteMany(Vec<String>),
}

/// What it comes to, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Value(Option<Vec<u8>>),
    Exists(bool),
    /// Keys, and where the next page begins.
    Keys(Vec<String>, Option<String>),
    Values(Vec<Option<Vec<u8>>>),
    Number(i64),
    /// Somebody else has changed the value that was to be swapped, to this.
    Changed(Option<Vec<u8>>),
}

/// Why it came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Failure {
    #[error("there is no such store")]
    NoSuchStore,
    #[error("the store is read-only")]
    AccessDenied,
    /// A limit, in words.
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    TimedOut(String),
    /// The server that keeps the store does not allow it.
    #[error("{0}")]
    NotAllowed(String),
    /// The store itself has failed, or the server that keeps it, or that cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl Operation {
    /// The names that they are counted by.
    pub(super) const NAMES: [&'static str; 11] = [
        "open",
        "get",
        "exists",
        "list-keys",
        "get-many",
        "set",
        "delete",
        "increment",
        "swap",
        "set-many",
        "delete-many",
    ];

    /// Its place among the names.
    pub(super) fn number(&self) -> usize {
        match self {
            Self::Open => 0,
            Self::Get(_) => 1,
            Self::Exists(_) => 2,
            Self::List(_) => 3,
            Self::GetMany(_) => 4,
            Self::Set(..) => 5,
            Self::Delete(_) => 6,
            Self::Increment(..) => 7,
            Self::Swap { .. } => 8,
            Self::SetMany(_) => 9,
            Self::DeleteMany(_) => 10,
        }
    }

    /// Whether it may change the store.
    pub(super) fn writes(&self) -> bool {
        self.number() >= 5
    }

    /// The keys that it is about.
    pub(super) fn keys(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Open | Self::List(_) => Box::new(std::iter::empty()),
            Self::Get(key) | Self::Exists(key) | Self::Set(key, _) | Self::Delete(key) => {
                Box::new(std::iter::once(&**key))
            }
            Self::Increment(key, _) | Self::Swap { key, .. } => Box::new(std::iter::once(&**key)),
            Self::GetMany(keys) | Self::DeleteMany(keys) => Box::new(keys.iter().map(|key| &**key)),
            Self::SetMany(entries) => Box::new(entries.iter().map(|(key, _)| &**key)),
        }
    }

    /// The values that it sets.
    pub(super) fn values(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Set(_, value) | Self::Swap { value, .. } => Box::new(std::iter::once(&**value)),
            Self::SetMany(entries) => Box::new(entries.iter().map(|(_, value)| &**value)),
            _ => Box::new(std::iter::empty()),
        }
    }
}

impl Failure {
    pub(super) fn other(reason: impl ToString) -> Self {
        Self::Other(reason.to_string())
    }
}

/// The most bytes that one answer has: it is held in the host's memory.
pub(super) const ANSWER_MAX: usize = 8 << 20;

/// The most keys that one page has.
pub(super) const PAGE: usize = 1000;

/// Counts how large an answer becomes.
#[derive(Default)]
pub(super) struct AnswerSize(usize);

impl AnswerSize {
    pub(super) fn add(&mut self, length: usize) -> Result<(), Failure> {
        self.0 = self.0.saturating_add(length);
        if self.0 <= ANSWER_MAX { Ok(()) } else { Err(too_large()) }
    }
}

pub(super) fn too_large() -> Failure {
    Failure::Limit(format!("an answer has no more than {ANSWER_MAX} bytes: ask for fewer keys"))
}

pub(super) fn no_number() -> Failure {
    Failure::other("the value is no whole number, so that nothing can be added to it")
}

pub(super) fn overflow() -> Failure {
    Failure::other("the sum would be beyond what 64 bits hold")
}

/// The number that a counter's value stands for: decimal text, as people read it and as Redis has it.
pub(super) fn number(value: &[u8]) -> Result<i64, Failure> {
    let text = std::str::from_utf8(value).ok();
    // One number has one form.
    let number = text.and_then(|text| text.parse::<i64>().ok().filter(|number| number.to_string() == text));
    number.ok_or_else(no_number)
}

/// A counter's value after `delta` was added.
pub(super) fn sum(value: Option<&[u8]>, delta: i64) -> Result<i64, Failure> {
    let sum = value.map_or(Ok(0), number)?.checked_add(delta);
    sum.ok_or_else(overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_decimal_text() {
        assert_eq!(sum(None, -3), Ok(-3));
        assert_eq!(sum(Some(b"41"), 1), Ok(42));
        assert_eq!(sum(Some(b"-9223372036854775807"), -1), Ok(i64::MIN));
        for no_number in [&b""[..], b"+1", b"01", b"-0", b"1 ", b"0x1", b"9223372036854775808", b"\xff"] {
            assert!(sum(Some(no_number), 1).is_err(), "{no_number:?}");
        }
        assert!(sum(Some(b"9223372036854775807"), 1).is_err());
    }
}
