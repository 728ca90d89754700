//! What a host keeps of its fleet, so that it can start without NATS: the last records, and their components.

use std::fs::File;

use plugsock::{Digest, Fetched};
use serde::{Deserialize, Serialize};

use super::records::{Desired, Rollout};
use crate::cli::kept;

/// What was last known of a slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    pub desired: Option<Desired>,
    pub rollout: Option<Rollout>,
}

/// Nothing, where there is no place for it.
#[derive(Clone, Debug)]
pub struct Kept {
    kept: Option<kept::Kept>,
    host: String,
}

impl Kept {
    pub fn new(kept: Option<kept::Kept>, group: &str, host: &str) -> Self {
        Self { kept, host: format!("{group}.{host}") }
    }

    /// What was known last.
    pub fn known(&self, slot: &str) -> Known {
        self.kept.as_ref().and_then(|kept| kept.note(&self.note(slot))).unwrap_or_default()
    }

    pub fn keep_known(&self, slot: &str, known: &Known) {
        self.kept.iter().for_each(|kept| kept.keep_note(&self.note(slot), known));
    }

    /// Has no other process that keeps things here be this host, as long as what this returns is there.
    pub fn claim(&self) -> Option<File> {
        self.kept.as_ref()?.claim(&self.instance_note())
    }

    /// What told this host from others when it was claimed last.
    pub fn instance(&self) -> Option<String> {
        self.kept.as_ref()?.note(&self.instance_note())
    }

    pub fn keep_instance(&self, instance: &str) {
        self.kept.iter().for_each(|kept| kept.keep_note(&self.instance_note(), &instance));
    }

    /// Whether this host was last told to accept nothing.
    pub fn is_drained(&self) -> bool {
        self.kept.as_ref().and_then(|kept| kept.note(&self.drain_note())).unwrap_or_default()
    }

    pub fn keep_drained(&self, is_drained: bool) {
        if self.is_drained() != is_drained {
            self.kept.iter().for_each(|kept| kept.keep_note(&self.drain_note(), &is_drained));
        }
    }

    fn drain_note(&self) -> String {
        format!("fleet {} =drained", self.host)
    }

    fn instance_note(&self) -> String {
        format!("fleet {} =instance", self.host)
    }

    fn note(&self, slot: &str) -> String {
        format!("fleet {} {slot}", self.host)
    }

    /// A component's bytes, if they are here, and its signatures.
    pub fn component_of(&self, digest: Digest, max: u64) -> Option<(Vec<u8>, Vec<String>)> {
        self.kept.as_ref()?.component(digest, max)
    }

    pub fn keep_component(&self, digest: Digest, fetched: &Fetched) {
        self.kept.iter().for_each(|kept| kept.keep_component(digest, fetched));
    }
}
