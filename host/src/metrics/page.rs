//! The page for people. It shows all without scripts; with them it goes on by itself, and draws what changes.

mod fleet;

use std::fmt::{self, Display, Write};
use std::time::Duration;

use super::Observed;
use crate::clients::Refused;
use crate::control::{ServerState, ServerStatus, SlotStatus, Status, VersionStatus, VersionStatusState};
use crate::job::{FAILURES, Failure};

const TEMPLATE: &str = include_str!("page.html");

pub(super) struct Page {
    pub(super) html: String,
    /// What it may do: run its own script and style, and ask the address that it came from.
    pub(super) policy: String,
}

pub(super) fn render(observed: &Observed) -> Page {
    let status = observed.status();
    let nonce = nonce();
    let parts = [
        ("{{nonce}}", nonce.clone()),
        ("{{summary}}", summary(&status)),
        ("{{servers}}", status.servers.iter().map(server_row).collect()),
        ("{{versions}}", status.slots.iter().flat_map(version_rows).collect()),
        ("{{fleet}}", status.fleet.as_ref().map(fleet::section).unwrap_or_default()),
        ("{{failures}}", failure_rows(observed)),
    ];
    let html = fill(TEMPLATE, &parts);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Page { html, policy }
}

/// What is put in is not looked at again: it may be like a place to be filled.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(2 * template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let marker = &rest[before.len()..];
        match parts.iter().find(|(place, _)| marker.starts_with(place)) {
            Some((place, part)) => {
                filled.push_str(part);
                rest = &marker[place.len()..];
            }
            None => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled + rest
}

fn nonce() -> String {
    let mut random = [0; 16];
    // Only where the kernel has none yet is it known beforehand.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    format!("{:032x}", u128::from_ne_bytes(random))
}

/// A text that stays one in HTML, also within quotes.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.to_string().chars() {
            match character {
                '&' => f.write_str("&amp;"),
                '<' => f.write_str("&lt;"),
                '>' => f.write_str("&gt;"),
                '"' => f.write_str("&quot;"),
                '\'' => f.write_str("&#39;"),
                other => f.write_char(other),
            }?;
        }
        Ok(())
    }
}

fn summary(status: &Status) -> String {
    let uptime = Duration::from_secs(status.uptime_seconds as u64);
    let uptime = humantime::format_duration(uptime).to_string();
    // The two largest units say enough.
    let uptime: Vec<_> = uptime.split(' ').take(2).collect();
    let (version, pid, uptime) = (Text(&status.version), status.pid, uptime.join(" "));
    format!("version {version} · process {pid} · up {uptime}")
}

/// A cell of a table, under the name of its column, which a narrow screen shows beside it.
fn cell(column: &str, class: &str, content: impl Display) -> String {
    format!("<td data-column=\"{column}\" class=\"{class}\">{content}</td>")
}

fn badge(class: &str, text: &str) -> String {
    format!("<span class=\"badge {class}\">{text}</span>")
}

fn server_row(server: &ServerStatus) -> String {
    let state = match server.state {
        ServerState::Accepting => badge("good", "accepting"),
        ServerState::Draining => badge("warn", "draining"),
        ServerState::Drained => badge("warn", "drained"),
        ServerState::Closed => badge("bad", "closed"),
    };
    let cells = [
        cell("Address", "name", Text(&server.address)),
        cell("State", "", state),
        cell("Strategy", "", Text(&server.concurrency)),
        cell("Slot", "", Text(&server.slot)),
        cell("Open", "number", server.open),
        cell("Refused", "number", refused(&server.refused)),
        cell("TLS", "", tls(server)),
    ];
    format!("<tr>{}</tr>\n", cells.concat())
}

/// How many, and beside it why.
fn refused(refused: &Refused) -> String {
    let reasons = refused.by_reason().into_iter().filter(|(_, count)| *count > 0);
    let reasons: Vec<_> = reasons.map(|(reason, count)| format!("{reason} {count}")).collect();
    match reasons.as_slice() {
        [] => "0".to_owned(),
        _ => format!("{} <small>{}</small>", refused.total(), Text(reasons.join(", "))),
    }
}

/// Handshakes, and when certificates expire.
fn tls(server: &ServerStatus) -> String {
    let Some(tls) = &server.tls else { return "–".to_owned() };
    let (done, failed): (u64, u64) = (tls.done.values().sum(), tls.failed.values().sum());
    let certificates = tls.certificates.iter().map(|certificate| {
        let day = certificate.expires.split('T').next().unwrap_or_default();
        format!("{} until {day}", certificate.name)
    });
    let certificates: Vec<_> = certificates.collect();
    format!("{done} done, {failed} failed <small>{}</small>", Text(certificates.join(", ")))
}

fn version_rows(slot: &SlotStatus) -> Vec<String> {
    let canary = slot.versions.iter().find_map(|version| version.share.as_deref());
    let canary: f64 = canary.and_then(|share| share.strip_suffix('%')?.parse().ok()).unwrap_or(0.0);
    slot.versions.iter().map(|version| version_row(slot, version, canary)).collect()
}

/// `canary` is a canary's share in percent.
fn version_row(slot: &SlotStatus, version: &VersionStatus, canary: f64) -> String {
    let (state, share) = match version.state {
        VersionStatusState::Serving => (badge("good", "serving"), 100.0 - canary),
        VersionStatusState::Canary => (badge("info", "canary"), canary),
        VersionStatusState::Replaced => (badge("", "replaced"), 0.0),
        VersionStatusState::Aborted => (badge("", "aborted"), 0.0),
        VersionStatusState::RolledBack => (badge("bad", "rolled back"), 0.0),
    };
    let reason = version.reason.as_ref().map(|reason| format!(" <small>{}</small>", Text(reason)));
    let limits: Vec<_> = version.limits.iter().map(|(limit, count)| format!("{limit} {count}")).collect();
    let failed = match version.failed {
        0 => "0".to_owned(),
        failed => format!("<span class=\"bad\">{failed}</span> <small>{}</small>", Text(limits.join(", "))),
    };
    let digest = short(&version.digest);
    let key = format!("{}/{}", slot.name, version.generation);
    let cells = [
        cell("Slot", "name", Text(&slot.name)),
        cell("Gen", "number", version.generation),
        cell(
            "Handler",
            "",
            format!("{} <small><code>{}</code></small>", Text(&version.handler), Text(digest)),
        ),
        cell("State", "", state + &reason.unwrap_or_default()),
        cell("Share", "number", format!("{}% <meter max=\"100\" value=\"{share}\"></meter>", round(share))),
        cell("Rate", "number live", format!("<span data-rate=\"{}\">–</span>", Text(key))),
        cell("Open", "number", version.open),
        cell("Total", "number", version.total),
        cell("Failed", "number", failed),
        cell("Broken off", "number", version.broken_off),
        cell("p50", "number", seconds(version.latency_seconds.p50)),
        cell("p99", "number", seconds(version.latency_seconds.p99)),
    ];
    format!("<tr>{}</tr>\n", cells.concat())
}

/// As much of a digest as tells versions apart.
fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    &digits[..digits.floor_char_boundary(12)]
}

/// Without digits that say nothing.
fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

/// A time as people write it, with three digits at most.
fn seconds(time: f64) -> String {
    match time {
        0.0 => "–".to_owned(),
        time if time < 0.001 => format!("{:.0} µs", time * 1e6),
        time if time < 0.01 => format!("{:.1} ms", time * 1e3),
        time if time < 1.0 => format!("{:.0} ms", time * 1e3),
        time => format!("{time:.1} s"),
    }
}

/// The last ones of all servers, the newest first.
fn failure_rows(observed: &Observed) -> String {
    let servers = observed.host.servers();
    let failures = servers.iter().flat_map(|server| {
        let (address, slot) = (server.address().to_string(), server.handler().name().to_owned());
        let failures = server.counts().last_failures().into_iter();
        failures.map(move |failure| (address.clone(), slot.clone(), failure))
    });
    let mut failures: Vec<_> = failures.collect();
    if failures.is_empty() {
        return "<tr><td class=\"none\" colspan=\"5\">None so far.</td></tr>\n".to_owned();
    }
    failures.sort_by_key(|(_, _, failure)| std::cmp::Reverse(failure.at));
    let newest = failures.iter().take(FAILURES);
    newest.map(|(address, slot, failure)| failure_row(address, slot, failure)).collect()
}

fn failure_row(address: &str, slot: &str, failure: &Failure) -> String {
    let Failure { at, request, generation, cause, phase, reason } = failure;
    let at = humantime::format_rfc3339_seconds(*at).to_string();
    let cells = [
        cell("Time", "nowrap", format!("<time datetime=\"{at}\">{}</time>", at.replace(['T', 'Z'], " "))),
        cell("Server", "name", Text(address)),
        cell("Version", "nowrap", format!("{} <small>gen {generation}</small>", Text(slot))),
        cell("Cause", "nowrap", format!("{} <small>in {}</small>", badge("bad", cause), Text(phase))),
        cell("Reason", "reason", format!("{} <small>request {request}</small>", Text(reason))),
    ];
    format!("<tr>{}</tr>\n", cells.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_stays_text() {
        let text = Text("<script>alert(\"1\")</script> & 'x'").to_string();
        assert_eq!(text, "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;");
        let parts = [("{{a}}", "{{b}}".to_owned()), ("{{b}}", "2".to_owned())];
        assert_eq!(fill("{{a}} {{b}} {{c}} {", &parts), "{{b}} 2 {{c}} {");
    }

    #[test]
    fn times_are_short() {
        let times = [(0.0, "–"), (0.000_042, "42 µs"), (0.0042, "4.2 ms"), (0.42, "420 ms"), (4.2, "4.2 s")];
        times.iter().for_each(|(time, expected)| assert_eq!(seconds(*time), *expected));
    }
}
