//! The metrics, all of them.

mod servers;
mod slots;

use std::time::SystemTime;

use super::family::{Family, Labels};
use super::process;
use crate::control::Controlled;
use crate::sandbox::Sandbox;
use crate::slot::Slot;
use crate::stores;
use crate::traces::Traces;

pub(super) fn families(host: &dyn Controlled, started: SystemTime) -> Vec<Family> {
    let slots = host.slots();
    let mut families = slots::of_versions(&slots);
    families.extend(slots::of_slots(&slots));
    families.extend(servers::of_servers(&host.servers()));
    families.extend(of_sandboxes(&slots));
    families.push(of_stores());
    families.extend(of_traces(host.traces()));
    families.extend(process::families(started));
    // What nobody has is not named.
    families.retain(|family| !family.samples.is_empty());
    families
}

/// By the names that handlers know them by.
fn of_stores() -> Family {
    let counts = stores::counts().into_iter().map(|(store, operation, outcome, count)| {
        let named = [("operation", operation), ("outcome", outcome)];
        let named = named.into_iter().map(|(label, name)| (label, name.to_owned()));
        (std::iter::once(("store", store)).chain(named).collect::<Labels>(), count)
    });
    Family::counter("plugsock_state_operations", "Operations on stores, by what came of them").with(counts)
}

/// None where nothing is traced.
fn of_traces(traces: Option<Traces>) -> [Family; 2] {
    let dropped = traces.iter().flat_map(Traces::dropped);
    [
        Family::counter("plugsock_spans_sent", "Spans that the collector has taken")
            .with(traces.iter().map(|traces| (Labels::new(), traces.sent()))),
        Family::counter(
            "plugsock_spans_dropped",
            "Spans that were let go of: too many waited for the collector, or it did not take them",
        )
        .with(dropped.map(|(reason, count)| (vec![("reason", reason.to_owned())], count))),
    ]
}

/// Of all together: handlers share them.
fn of_sandboxes(slots: &[Slot]) -> Vec<Family> {
    let mut sandboxes: Vec<Sandbox> = Vec::new();
    for slot in slots {
        let handler = slot.current();
        if !sandboxes.iter().any(|sandbox| sandbox.shares_engine_with(handler.sandbox())) {
            sandboxes.push(handler.sandbox().clone());
        }
    }
    let numbered = || sandboxes.iter().enumerate();
    // One has no label; of several each has a number.
    let labels = |number: usize| -> Labels {
        let is_one = sandboxes.len() == 1;
        if is_one { Labels::new() } else { vec![("sandbox", number.to_string())] }
    };
    vec![
        Family::times("plugsock_compile_duration", "How long handlers took to be compiled")
            .with(numbered().map(|(number, sandbox)| (labels(number), sandbox.compiles().times()))),
        Family::counter("plugsock_compile_failures", "Handlers that could not be compiled")
            .with(numbered().map(|(number, sandbox)| (labels(number), sandbox.compiles().failures()))),
        Family::counter("plugsock_cache_hits", "Handlers that were found compiled in the cache")
            .with(numbered().map(|(number, sandbox)| (labels(number), sandbox.compiles().cached()))),
        Family::counter("plugsock_guest_log_dropped_lines", "Lines of handlers that were not logged")
            .with(numbered().map(|(number, sandbox)| (labels(number), sandbox.dropped_lines()))),
    ]
}
