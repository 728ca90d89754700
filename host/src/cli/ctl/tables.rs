//! What is known of servers, as text in columns that fit the terminal.

use std::fmt::Write;
use std::time::Duration;

use plugsock::Refused;
use plugsock::control::{
    CertificateStatus, FleetStatus, RolloutStatus, ServerStatus, SlotStatus, Status, TlsStatus,
    VersionStatus, VersionStatusState,
};
use serde::Serialize;

use crate::cli::columns::Columns;
use crate::cli::registry::SCHEME;

pub const SERVER_COLUMNS: [&str; 7] = ["ADDRESS", "TYPE", "STRATEGY", "SLOT", "STATE", "OPEN", "REFUSED"];

pub const VERSION_COLUMNS: [&str; 13] = [
    "SLOT", "GEN", "STATE", "HANDLER", "DIGEST", "OPEN", "TOTAL", "FAILED", "BROKEN", "CUT", "P50", "P90",
    "P99",
];

/// Which of the columns is the first that counts something.
pub const COUNTS_FROM: usize = 5;

/// Where a version's row has its digest.
const DIGEST_COLUMN: usize = 4;

/// As much of a digest as tells versions apart.
pub const DIGEST_LENGTH: usize = "sha256:".len() + 12;

pub fn status(status: &Status, width: Option<usize>) -> String {
    let mut servers = servers(status).fit(width, COUNTS_FROM).lines(width);
    for server in &status.servers {
        if let Some(reasons) = refusals(&server.refused) {
            let refused = printable(format!("{} refused clients: {reasons}", server.address));
            let _ = writeln!(servers, "{refused}");
        }
        for remark in server.tls.iter().flat_map(handshakes) {
            let _ = writeln!(servers, "{}", printable(format!("{} {remark}", server.address)));
        }
    }
    let fleet = status.fleet.as_ref().map(fleet).unwrap_or_default();
    format!("{}\n\n{servers}\n{}{fleet}", headline(status), versions(&status.slots, width))
}

/// What is known of the fleet, in lines.
fn fleet(fleet: &FleetStatus) -> String {
    let FleetStatus { group, host, connected, rollouts, problems } = fleet;
    let connection = if *connected { "connected" } else { "not connected" };
    let head = format!("fleet: host {host} of group {group}, {connection}");
    let rollouts = rollouts.iter().map(|rollout| {
        let RolloutStatus { slot, generation, state, allowed, eligible, reason, .. } = rollout;
        let (stage, stages) = (rollout.stage, rollout.stages.len());
        let reason = reason.iter().map(|reason| format!(": {reason}")).collect::<String>();
        format!(
            "fleet: {slot}: roll-out {generation} is {state}, stage {stage} of {stages}, {allowed} of {eligible} hosts{reason}"
        )
    });
    let problems = problems.iter().map(|problem| format!("fleet: {problem}"));
    let lines = std::iter::once(head).chain(rollouts).chain(problems);
    lines.fold("\n".to_owned(), |text, line| text + &printable(line) + "\n")
}

/// How handshakes went, if there were any, and what is shown in them.
fn handshakes(tls: &TlsStatus) -> Vec<String> {
    let count = |(what, count): (&String, &u64)| format!("{what} {count}");
    let done =
        tls.done.iter().map(count).chain((tls.resumed > 0).then(|| format!("resumed {}", tls.resumed)));
    let failed = tls.failed.iter().map(count);
    let [done, failed] = [done.collect::<Vec<_>>(), failed.collect()].map(|counts| counts.join(", "));
    let handshakes = [("handshakes", done), ("failed handshakes", failed)];
    let handshakes = handshakes.into_iter().filter(|(_, counts)| !counts.is_empty());
    let certificates = tls.certificates.iter().map(|CertificateStatus { name, names, expires }| {
        format!("certificate {name} ({}), expires {expires}", names.join(", "))
    });
    handshakes.map(|(what, counts)| format!("{what}: {counts}")).chain(certificates).collect()
}

/// How many clients were turned away for which reason, by the protocol's names.
fn refusals(refused: &Refused) -> Option<String> {
    let by_reason = serde_json::to_value(refused).ok()?;
    let counts = by_reason.as_object()?.iter().filter(|(_, count)| count.as_u64() != Some(0));
    let counts: Vec<_> =
        counts.map(|(reason, count)| format!("{} {count}", reason.replace('_', "-"))).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

pub fn headline(status: &Status) -> String {
    let uptime = Duration::from_secs(status.uptime_seconds as u64);
    let (version, pid) = (&status.version, status.pid);
    format!("plugsock {version}, process {pid}, up {}", humantime::format_duration(uptime))
}

pub fn servers(status: &Status) -> Columns {
    let rows = status.servers.iter().map(|server| server_row(server).into());
    Columns::new(std::iter::once(SERVER_COLUMNS.map(str::to_owned).into()).chain(rows).collect())
}

pub fn versions(slots: &[SlotStatus], width: Option<usize>) -> String {
    let rows =
        slots.iter().flat_map(|slot| slot.versions.iter().map(|version| version_row(slot, version).into()));
    let rows = std::iter::once(VERSION_COLUMNS.map(str::to_owned).into()).chain(rows).collect();
    let mut text = fit_versions(Columns::new(rows), width).lines(width);
    for slot in slots {
        for remark in slot.versions.iter().flat_map(|version| remarks(slot, version)) {
            let _ = writeln!(text, "{remark}");
        }
    }
    text
}

/// Fits the columns of versions; where there is little room, digests go without what they all begin with.
pub fn fit_versions(columns: Columns, width: Option<usize>) -> Columns {
    if width.is_none_or(|width| columns.width() <= width) {
        return columns;
    }
    let mut rows = columns.rows;
    for row in &mut rows {
        if let Some(digits) = row[DIGEST_COLUMN].strip_prefix("sha256:") {
            row[DIGEST_COLUMN] = digits.to_owned();
        }
    }
    Columns::new(rows).fit(width, COUNTS_FROM)
}

/// What is to be said of a version beyond its row.
pub fn remarks(slot: &SlotStatus, version: &VersionStatus) -> Vec<String> {
    let name = printable(format!("{} {}", slot.name, version.generation));
    let limits: Vec<_> = version.limits.iter().map(|(limit, count)| format!("{limit} {count}")).collect();
    let limits = (!limits.is_empty()).then(|| format!("{name} hit limits: {}", limits.join(", ")));
    let from = version.source.as_ref().filter(|source| source.starts_with(SCHEME));
    let from = from.map(|source| format!("{name} is {source}"));
    let reason = version.reason.as_ref().map(|reason| format!("{name} was rolled back: {reason}"));
    from.into_iter().chain(limits).chain(reason).map(printable).collect()
}

pub fn server_row(server: &ServerStatus) -> [String; 7] {
    [
        server.address.clone(),
        server.server_type.clone(),
        server.concurrency.clone(),
        server.slot.clone(),
        name(&server.state),
        server.open.to_string(),
        server.refused.total().to_string(),
    ]
    .map(printable)
}

pub fn version_row(slot: &SlotStatus, version: &VersionStatus) -> [String; 13] {
    let state = match (&version.state, &version.share) {
        (VersionStatusState::Canary, Some(share)) => format!("canary {share}"),
        (state, _) => name(state),
    };
    let latency = version.latency_seconds;
    [
        slot.name.clone(),
        version.generation.to_string(),
        state,
        version.handler.clone(),
        version.digest.chars().take(DIGEST_LENGTH).collect(),
        version.open.to_string(),
        version.total.to_string(),
        version.failed.to_string(),
        version.broken_off.to_string(),
        version.cut.to_string(),
        time(latency.p50),
        time(latency.p90),
        time(latency.p99),
    ]
    .map(printable)
}

/// A file's name may have anything in it.
pub fn printable(text: String) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A state's name, as the protocol has it.
pub fn name(state: &impl Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Seconds with as many digits as matter.
fn time(seconds: f64) -> String {
    match seconds {
        zero if zero <= 0.0 => "-".to_owned(),
        short if short < 0.001 => format!("{:.0}us", short * 1e6),
        short if short < 1.0 => format!("{:.1}ms", short * 1e3),
        long => format!("{long:.1}s"),
    }
}
