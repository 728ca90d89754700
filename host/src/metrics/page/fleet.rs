//! The part of the page that shows the fleet of a host that is in one.

use super::{Text, badge, cell, short};
use crate::control::{FleetStatus, RolloutStatus};

const HEAD: &str = "<thead><tr><th>Slot<th class=\"number\">Roll-out<th>State<th>Stage<th>Handler\
                    <th class=\"number\">Hosts</tr></thead>";

pub(super) fn section(fleet: &FleetStatus) -> String {
    let connection = match fleet.connected {
        true => badge("good", "connected"),
        false => badge("bad", "not connected"),
    };
    let (group, host) = (Text(&fleet.group), Text(&fleet.host));
    let rows: String = match fleet.rollouts.is_empty() {
        true => "<tr><td class=\"none\" colspan=\"6\">Nothing is rolled out.</td></tr>\n".to_owned(),
        false => fleet.rollouts.iter().map(row).collect(),
    };
    let problems = fleet.problems.iter().map(|problem| format!("<p class=\"bad\">{}</p>\n", Text(problem)));
    format!(
        "<h2>Fleet</h2>\n<p>Host {host} of group {group} {connection}</p>\n{}\
         <div class=\"table\"><table>{HEAD}<tbody>\n{rows}</tbody></table></div>\n",
        problems.collect::<String>()
    )
}

fn row(rollout: &RolloutStatus) -> String {
    let class = match rollout.state.as_str() {
        "complete" => "good",
        "running" => "info",
        "failed" | "rolled-back" => "bad",
        _ => "warn",
    };
    let state = badge(class, &Text(&rollout.state).to_string());
    let reason = rollout.reason.iter().map(|reason| format!(" <small>{}</small>", Text(reason)));
    let stage = match rollout.stage.checked_sub(1).and_then(|stage| rollout.stages.get(stage)) {
        Some(stage) => {
            format!("{} of {} <small>{}</small>", rollout.stage, rollout.stages.len(), Text(stage))
        }
        None => "–".to_owned(),
    };
    let digest = short(&rollout.digest);
    let cells = [
        cell("Slot", "name", Text(&rollout.slot)),
        cell("Roll-out", "number", rollout.generation),
        cell("State", "", state + &reason.collect::<String>()),
        cell("Stage", "", stage),
        cell(
            "Handler",
            "",
            format!("{} <small><code>{}</code></small>", Text(&rollout.handler), Text(digest)),
        ),
        cell("Hosts", "number", format!("{} of {}", rollout.allowed, rollout.eligible)),
    ];
    format!("<tr>{}</tr>\n", cells.concat())
}
