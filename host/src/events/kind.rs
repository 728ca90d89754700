//! What may happen.

use serde::{Deserialize, Serialize};

/// Something that happened. In JSON its name is the member `event`, and its fields are members beside it.
///
/// `slot` and `generation` tell which version it is about and `digest` which component that is; `address` is the
/// server's. A `count` says for how many alike one event stands: clients and handlers can bring them about at will, so
/// that they are told once a second at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub enum EventKind {
    /// From here on nothing is missed: the first that a follower is told.
    Following { pid: u32, version: String },
    /// So many events came faster than the follower took them.
    Lost { count: u64 },
    /// A server begins to accept.
    Serving { address: String, slot: String, generation: u64, digest: String },
    /// A server accepts no more, for good.
    Closed { address: String },
    /// Another version gets all new requests.
    Swapped { slot: String, generation: u64, digest: String },
    /// Another version gets a share of them.
    Canary { slot: String, generation: u64, digest: String, share: String },
    /// The canary gets all new requests.
    Promoted { slot: String, generation: u64, digest: String },
    /// The canary's share was taken back; `serving` is the generation that has it now.
    Aborted { slot: String, generation: u64, digest: String, serving: u64 },
    /// A version was taken back; `serving` is the generation that serves in its place.
    RolledBack { slot: String, generation: u64, digest: String, serving: u64, reason: String },
    /// A swap came to nothing.
    NotSwapped { slot: String, reason: String },
    /// The last request of a version that was replaced has ended.
    Drained { slot: String, generation: u64, digest: String },
    /// Requests of a version that was replaced had gone on for too long.
    CutOff { slot: String, generation: u64, count: u64 },
    /// Clients were turned away; the reasons have the names that `status` has for them.
    Refused { address: String, reason: String, count: u64 },
    /// A limit ended requests, by its name.
    Limit { address: String, slot: String, generation: u64, digest: String, limit: String, count: u64 },
    /// Requests failed by the handler's fault or the host's; the reason is that of the last.
    Failed {
        address: String,
        slot: String,
        generation: u64,
        digest: String,
        phase: String,
        reason: String,
        count: u64,
    },
    /// As many requests are open as may be; new clients wait.
    Full { address: String, max: u64, count: u64 },
    /// A server stops accepting for a while.
    Draining { address: String },
    /// It accepts again.
    Resumed { address: String },
    /// The handlers, and the certificates, are loaded again.
    Reloading {},
    /// Another process of the program is started to take over.
    Upgrading {},
    /// It has taken over.
    Upgraded { pid: u32 },
    /// It has not; this one serves on.
    NotUpgraded { reason: String },
    /// A process that forks for requests serves a version.
    ForkServerStarted { address: String, generation: u64, digest: String, pid: u32 },
    /// It died; another is started.
    ForkServerEnded { address: String, generation: u64, digest: String, pid: u32, reason: String },
    /// The program ends when open requests have.
    ShuttingDown {},
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

impl EventKind {
    /// What recurs at others' will: one event may stand for all that are alike in this.
    pub(super) fn recurs_as(&self) -> Option<(&str, &str, u64, &str)> {
        match self {
            Self::Refused { address, reason, .. } => Some(("refused", address, 0, reason)),
            Self::Limit { address, generation, limit, .. } => Some(("limit", address, *generation, limit)),
            Self::Failed { address, generation, phase, .. } => Some(("failed", address, *generation, phase)),
            Self::Full { address, .. } => Some(("full", address, 0, "")),
            _ => None,
        }
    }

    /// For how many it stands.
    pub(super) fn count_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Refused { count, .. }
            | Self::Limit { count, .. }
            | Self::Failed { count, .. }
            | Self::Full { count, .. } => Some(count),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Event;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let text = concat!(
            r#"{"time":"2026-01-02T03:04:05.678Z","event":"rolled-back","slot":"echo","generation":3,"#,
            r#""digest":"sha256:00","serving":4,"reason":"asked for"}"#
        );
        let event: Event = serde_json::from_str(text).unwrap();
        assert!(matches!(&event.kind, EventKind::RolledBack { generation: 3, serving: 4, .. }), "{event:?}");
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
    }

    #[test]
    fn what_a_later_version_tells_is_no_error() {
        let event: Event =
            serde_json::from_str(r#"{"time":"2026-01-02T03:04:05.678Z","event":"new","more":1}"#).unwrap();
        assert_eq!(event.kind, EventKind::Other);
    }
}
