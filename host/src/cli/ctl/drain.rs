//! `plugsock ctl drain`: waits on the operator's side, so that the server keeps nobody's wait.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use plugsock::control::{Answer, Command, ServerState, Status};

use super::{Asking, unexpected};
use crate::cli::output;

/// How often the server is asked whether it is done.
const EVERY: Duration = Duration::from_millis(50);

pub(super) fn drain(asking: &mut Asking, timeout: Option<Duration>) -> anyhow::Result<()> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    match asking.client.ask(&Command::Drain {})? {
        Answer::Draining { open } if !asking.json => {
            output::print(&format!("draining: no new requests; {open} are open\n"))?;
        }
        Answer::Draining { .. } => {}
        other => return unexpected(&other),
    }
    loop {
        let status = match asking.client.ask(&Command::Status {})? {
            Answer::Status(status) => status,
            other => return unexpected(&other),
        };
        let is = |state| status.servers.iter().filter(|server| server.state == state).count();
        if is(ServerState::Accepting) > 0 {
            bail!("somebody resumed the server before it was drained");
        }
        if is(ServerState::Draining) == 0 {
            return say_drained(asking.json, &status);
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            let open: usize = status.servers.iter().map(|server| server.open).sum();
            bail!(
                "{open} requests are still open after {}: the server accepts no others until `plugsock ctl resume`",
                humantime::format_duration(timeout.unwrap_or_default())
            );
        }
        thread::sleep(deadline.map_or(EVERY, |at| EVERY.min(at.saturating_duration_since(Instant::now()))));
    }
}

/// For programs as `status` says it.
fn say_drained(json: bool, status: &Status) -> anyhow::Result<()> {
    match json {
        true => output::print_json(status),
        false => output::print("drained\n"),
    }
}
