//! Does what commands ask for.

use std::time::Duration;

use super::Controlled;
use super::protocol::{Answer, Command, Published, Refusal};
use super::status::{SlotStatus, Status};
use crate::error::SwapError;
use crate::slot::{Slot, SwapOptions, Swapped};

/// Carries one command out; returns when it is done, which takes a swap as long as it compiles.
pub(super) fn execute(host: &dyn Controlled, uptime: Duration, command: Command) -> Result<Answer, Refusal> {
    match command {
        Command::Status {} => Ok(Answer::Status(Status::of(host, uptime))),
        Command::Versions { slot: None } => {
            Ok(Answer::Versions(host.slots().iter().map(SlotStatus::of).collect()))
        }
        Command::Versions { slot } => Ok(Answer::Versions(vec![SlotStatus::of(&find_slot(host, slot)?)])),
        Command::Swap { slot, file, digest, canary, force } => {
            let slot = find_slot(host, slot)?;
            let source = host.source(&file).map_err(Refusal::refused)?;
            let how = SwapOptions { digest, canary, force, probe: None };
            publish(&slot, |slot| slot.swap_with(source, how))
        }
        Command::Rollback { slot } => publish(&find_slot(host, slot)?, Slot::rollback),
        Command::Promote { slot } => publish(&find_slot(host, slot)?, Slot::promote),
        Command::Abort { slot } => publish(&find_slot(host, slot)?, Slot::abort),
        Command::Drain {} => {
            host.servers().iter().for_each(|server| server.pause());
            Ok(Answer::Draining { open: host.servers().iter().map(|server| server.open_requests()).sum() })
        }
        Command::Resume {} => {
            host.servers().iter().for_each(|server| server.resume());
            Ok(Answer::Done { note: None })
        }
        Command::Reload {} => Ok(Answer::Reloaded { changes: host.reload().map_err(Refusal::refused)? }),
        Command::Upgrade {} => Ok(Answer::Upgraded { pid: host.upgrade().map_err(Refusal::refused)? }),
        // When the answer is on its way: nobody might be left to give it otherwise.
        Command::Shutdown {} => Ok(Answer::Done { note: None }),
        Command::Events {} => unreachable!("its answer has no end, so that the session gives it"),
        Command::LogLevel { filter } => {
            host.set_log_filter(&filter).map_err(Refusal::refused)?;
            Ok(Answer::Done { note: None })
        }
    }
}

fn find_slot(host: &dyn Controlled, name: Option<String>) -> Result<Slot, Refusal> {
    let mut slots = host.slots();
    let names = || host.slots().iter().map(|slot| slot.name().to_owned()).collect::<Vec<_>>().join(", ");
    match name {
        None if slots.len() == 1 => Ok(slots.remove(0)),
        None => Err(Refusal::refused(format!("name a slot after the subcommand: there are {}", names()))),
        Some(name) => slots
            .into_iter()
            .find(|slot| slot.name() == name)
            .ok_or_else(|| Refusal::refused(format!("there is no slot '{name}': there are {}", names()))),
    }
}

fn publish(slot: &Slot, change: impl FnOnce(&Slot) -> Result<Swapped, SwapError>) -> Result<Answer, Refusal> {
    let (is_changed, generation, digest) = match change(slot).map_err(Refusal::refused)? {
        Swapped::Published { generation, digest } => (true, generation, digest),
        Swapped::Unchanged { generation, digest } => (false, generation, digest),
    };
    let slot = slot.name().to_owned();
    Ok(Answer::Swapped(Published { slot, is_changed, generation, digest }))
}
