//! What is known of a program's servers and slots, as the control socket says it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Controlled;
use crate::clients::Refused;
use crate::server::Server;
use crate::slot::{Slot, VersionState, VersionStats};
use crate::tls::{Handshakes, IdentityStatus, Tls};

/// All that is known of a program that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// The version of Plugsock.
    pub version: String,
    /// For how long it has served.
    pub uptime_seconds: f64,
    /// Its servers.
    pub servers: Vec<ServerStatus>,
    /// Its slots.
    pub slots: Vec<SlotStatus>,
    /// The fleet that it is part of, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
}

/// What a program knows of the fleet that it is part of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// The group of hosts.
    pub group: String,
    /// What it is called there.
    pub host: String,
    /// Whether it hears what the fleet says.
    pub connected: bool,
    /// What is rolled out to the group, as far as it was heard.
    pub rollouts: Vec<RolloutStatus>,
    /// What is wrong here, in words.
    pub problems: Vec<String>,
}

/// How a roll-out stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// The slot that it is for.
    pub slot: String,
    /// Counts the roll-outs of the slot.
    pub generation: u64,
    /// In a word.
    pub state: String,
    /// The stage that it is in, from 1; 0 before it has begun.
    pub stage: usize,
    /// How many hosts have it at a time.
    pub stages: Vec<String>,
    /// What is rolled out.
    pub handler: String,
    /// Its SHA-256.
    pub digest: String,
    /// Hosts that may have it by now.
    pub allowed: usize,
    /// Hosts that it is for.
    pub eligible: usize,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// What it is called.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Its type, by the scheme of its addresses.
    pub server_type: String,
    /// Its strategy.
    pub concurrency: String,
    /// The slot that it serves.
    pub slot: String,
    /// Whether it accepts.
    pub state: ServerState,
    /// Requests that are open.
    pub open: usize,
    /// Clients that were turned away.
    pub refused: Refused,
    /// What its connections are protected with, if there is anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
}

/// What is known of a server's TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlsStatus {
    /// Handshakes that were done, by the version of the protocol.
    pub done: BTreeMap<String, u64>,
    /// Those of them that resumed an earlier session.
    pub resumed: u64,
    /// Handshakes that failed, by the reason.
    pub failed: BTreeMap<String, u64>,
    /// The certificates that it may show, the default first.
    pub certificates: Vec<CertificateStatus>,
}

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// What handlers ask for it by.
    pub name: String,
    /// Whom it is for: its subject, then its alternative names.
    pub names: Vec<String>,
    /// When it expires, in UTC, as RFC 3339 writes it.
    pub expires: String,
}

/// Whether a server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// It does.
    Accepting,
    /// Not for now: new clients wait, and open requests go on.
    Draining,
    /// Not for now, and no request is open.
    Drained,
    /// Not any more.
    Closed,
}

/// What is known of one slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// What it is called.
    pub name: String,
    /// SHA-256 of the component that serves.
    pub digest: String,
    /// Its versions, the newest first.
    pub versions: Vec<VersionStatus>,
}

/// What is known of one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Counts the versions of the slot, from 1.
    pub generation: u64,
    /// The handler's name.
    pub handler: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Where it was loaded from: a file, or a reference to exactly this in a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where it stands.
    pub state: VersionStatusState,
    /// A canary's share of new requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// Why it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it has served, in UTC, as RFC 3339 writes it.
    pub since: String,
    /// Requests that it serves now.
    pub open: u64,
    /// All requests that it was given.
    pub total: u64,
    /// Those that failed by the handler's fault or the host's.
    pub failed: u64,
    /// Those that ended by the client's doing: it broke off, or was silent or slow for too long.
    pub broken_off: u64,
    /// Those that the server cut off, as it closed or the version had been replaced for too long.
    pub cut: u64,
    /// Those of `failed` and `broken_off` that a limit ended, by the limit's name.
    pub limits: BTreeMap<String, u64>,
    /// How long those took that have ended.
    pub latency_seconds: Latency,
}

/// Where a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionStatusState {
    /// New requests get it.
    Serving,
    /// A share of them gets it.
    Canary,
    /// It was replaced.
    Replaced,
    /// Its share was taken back.
    Aborted,
    /// The one before it was put back.
    RolledBack,
}

/// Percentiles, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named for the percentile that it is")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

impl Status {
    pub(crate) fn of(host: &dyn Controlled, uptime: Duration) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: uptime.as_secs_f64(),
            servers: host.servers().iter().map(|server| ServerStatus::of(server)).collect(),
            slots: host.slots().iter().map(SlotStatus::of).collect(),
            fleet: host.fleet(),
        }
    }
}

impl ServerStatus {
    fn of(server: &Server) -> Self {
        let info = server.info();
        Self {
            name: info.name.clone(),
            address: server.address().to_string(),
            server_type: info.server_type.scheme().to_owned(),
            concurrency: info.concurrency.clone(),
            slot: server.handler().name().to_owned(),
            state: match server.fileno() {
                None => ServerState::Closed,
                Some(_) if server.is_drained() => ServerState::Drained,
                Some(_) if server.is_paused() => ServerState::Draining,
                Some(_) => ServerState::Accepting,
            },
            open: server.open_requests(),
            refused: server.refused(),
            tls: server.tls().map(|tls| TlsStatus::of(tls, server.handshakes())),
        }
    }
}

impl TlsStatus {
    fn of(tls: &Tls, handshakes: Handshakes) -> Self {
        let Handshakes { done, resumed, failed } = handshakes;
        let certificates = tls.identities().into_iter().map(CertificateStatus::from).collect();
        Self { done, resumed, failed, certificates }
    }
}

impl From<IdentityStatus> for CertificateStatus {
    fn from(IdentityStatus { name, names, expires }: IdentityStatus) -> Self {
        Self { name, names, expires: humantime::format_rfc3339_seconds(expires).to_string() }
    }
}

impl SlotStatus {
    pub(super) fn of(slot: &Slot) -> Self {
        Self {
            name: slot.name().to_owned(),
            digest: slot.current().digest().to_owned(),
            versions: slot.versions().into_iter().map(VersionStatus::from).collect(),
        }
    }
}

impl From<VersionStats> for VersionStatus {
    fn from(stats: VersionStats) -> Self {
        let (state, share, reason) = match stats.state {
            VersionState::Serving => (VersionStatusState::Serving, None, None),
            VersionState::Canary(share) => (VersionStatusState::Canary, Some(share.to_string()), None),
            VersionState::Replaced => (VersionStatusState::Replaced, None, None),
            VersionState::Aborted => (VersionStatusState::Aborted, None, None),
            VersionState::RolledBack(reason) => (VersionStatusState::RolledBack, None, Some(reason)),
        };
        let [p50, p90, p99] = stats.latency.map(|latency| latency.as_secs_f64());
        let open = stats.open as u64;
        Self {
            generation: stats.generation,
            handler: stats.handler,
            digest: stats.digest,
            source: stats.origin.map(|origin| origin.to_string()),
            state,
            share,
            reason,
            since: humantime::format_rfc3339_seconds(stats.since).to_string(),
            open,
            total: stats.ended + open,
            failed: stats.failed,
            broken_off: stats.broken_off,
            cut: stats.cut,
            limits: stats.limits,
            latency_seconds: Latency { p50, p90, p99 },
        }
    }
}
