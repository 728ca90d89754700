//! What is wrong, each said once as long as it lasts.

use std::collections::BTreeMap;

/// What is complained of when it is away.
const NATS: &str = "NATS";

/// What NATS does not allow, by a connection.
pub(super) const REFUSAL: &str = "permissions";
pub(super) const DRIVING: &str = "driving";

/// What is complained of where a record cannot be heeded begins so; its key follows.
pub(super) const RECORD: &str = "record ";

#[derive(Default)]
pub(super) struct Complaints(BTreeMap<String, String>);

impl Complaints {
    /// Whose reason changes as often as it is asked.
    pub(super) fn about_nats(&mut self, reason: String) {
        let reason = format!("{reason}; what is here is served on, and it is tried again");
        match self.0.get_mut(NATS) {
            Some(before) => *before = reason,
            None => self.about(NATS, Some(reason)),
        }
    }

    pub(super) fn about(&mut self, what: &str, reason: Option<String>) {
        match reason {
            None => drop(self.0.remove(what)),
            Some(reason) if self.0.get(what) == Some(&reason) => {}
            Some(reason) => {
                tracing::warn!("fleet: {what}: {reason}");
                self.0.insert(what.to_owned(), reason);
            }
        }
    }

    /// By another connection it may be allowed.
    pub(super) fn forget_refusals(&mut self) {
        self.0.retain(|what, _| ![REFUSAL, DRIVING].contains(&&**what));
    }

    /// What was wrong with records that are no more is no matter.
    pub(super) fn forget_records(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|what, _| what.strip_prefix(RECORD).is_none_or(&is_there));
    }

    /// NATS is there; whether it was not.
    pub(super) fn nats_is_there(&mut self) -> bool {
        self.0.remove(NATS).is_some()
    }

    /// All of them, in words.
    pub(super) fn list(&self) -> Vec<String> {
        self.0.iter().map(|(what, reason)| format!("{what}: {reason}")).collect()
    }
}
