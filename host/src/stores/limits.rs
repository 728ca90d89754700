//! What handlers may ask of stores.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::operation::{Failure, Operation};
use crate::clients::Rate;

/// What one handler may ask of the stores that it is granted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateLimits {
    /// Bytes of a key (1,024).
    pub key_size: usize,
    /// Bytes of a value (1 MiB).
    pub value_size: usize,
    /// Keys that a store may have, for the handler to add another (100,000).
    pub keys: u64,
    /// Bytes of all keys and values of a store, for the handler to add to them (256 MiB).
    pub size: u64,
    /// How often it may ask, all its requests together (10,000 a second).
    #[serde(skip)]
    pub rate: Option<Rate>,
    /// How long an operation may take (5 s).
    pub time: Duration,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self {
            key_size: 1024,
            value_size: 1 << 20,
            keys: 100_000,
            size: 256 << 20,
            rate: "10000/s".parse().ok(),
            time: Duration::from_secs(5),
        }
    }
}

/// How much a store may hold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Quota {
    pub(super) keys: u64,
    pub(super) size: u64,
}

impl Quota {
    /// For whom the operator is.
    pub(crate) const NONE: Self = Self { keys: u64::MAX, size: u64::MAX };

    /// Whether a store may become so full that was less full `before`.
    pub(super) fn check(self, before: Totals, after: Totals) -> Result<(), Failure> {
        if after.keys > before.keys && after.keys > self.keys {
            return Err(self.keys_reached(before.keys));
        }
        if after.size > before.size && after.size > self.size {
            return Err(self.size_reached(before.size));
        }
        Ok(())
    }

    pub(super) fn keys_reached(self, keys: impl Display) -> Failure {
        Failure::Limit(format!("the store has {keys} keys, and may have no more"))
    }

    pub(super) fn size_reached(self, size: impl Display) -> Failure {
        let most = self.size;
        Failure::Limit(format!("the store has {size} bytes, and may have no more than {most}"))
    }
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(super) keys: u64,
    /// Bytes of keys and values.
    pub(super) size: u64,
}

impl StateLimits {
    pub(super) fn quota(&self) -> Quota {
        Quota { keys: self.keys, size: self.size }
    }

    /// Whether the operation is no larger than allowed.
    pub(super) fn check(&self, operation: &Operation) -> Result<(), Failure> {
        if let Some(key) = operation.keys().find(|key| key.len() > self.key_size) {
            let (length, most) = (key.len(), self.key_size);
            return Err(Failure::Limit(format!(
                "the key has {length} bytes, and may have no more than {most}"
            )));
        }
        if let Some(value) = operation.values().find(|value| value.len() > self.value_size) {
            let (length, most) = (value.len(), self.value_size);
            return Err(Failure::Limit(format!(
                "the value has {length} bytes, and may have no more than {most}"
            )));
        }
        Ok(())
    }
}
