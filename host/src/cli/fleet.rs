//! `plugsock fleet`: many hosts that serve what operators say, over NATS JetStream.
//!
//! ```text
//!  operators ── `commands`, `view` ──┐                                ┌── `member`: swaps, says what it serves
//!                                    ├── NATS: `records`, in `store` ─┤
//!  nobody needs to be there           ┘                                └── `driver`: one of them, by a lease; `decide` says what next
//! ```

mod commands;
mod decide;
mod driver;
mod kept;
#[cfg(test)]
mod many;
mod member;
mod options;
mod part;
mod records;
mod store;
mod view;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio::runtime::Builder;

pub use member::{Joining, join};
pub use options::FleetArgs;
pub use part::Part;

/// Roll handlers and programs out to many hosts, and look at them
///
/// The hosts are those of `plugsock serve --fleet URL`. What they are to serve is kept in NATS JetStream, where they follow it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock serve tcp://:7 echo.wasm --fleet nats://nats.lan --fleet-group web --label zone=a --public-key release.pub
  export PLUGSOCK_FLEET=nats://operator:secret@nats.lan
  plugsock fleet rollout echo-2.wasm --group web --sign release.key --wait
  plugsock fleet rollout oci://cr.example/acme/echo:2 --group web --stages 1,all --gate 'errors>0.5%/5m' --where zone=a
  plugsock fleet upgrade ./plugsock --group web --sign upgrade.key --wait
  plugsock fleet status
  plugsock fleet rollback --group web

Exit status: 0 if it was done, 1 if not or if a roll-out that was waited for has failed, 2 for wrong usage.")]
pub struct Fleet {
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    Init(commands::Init),
    Push(commands::Push),
    #[command(name = "rollout")]
    RollOut(Box<commands::RollOut>),
    Upgrade(Box<commands::Upgrade>),
    /// Show what is rolled out where, and what is wrong
    Status(commands::Look),
    /// Show the hosts that are there, and what they serve
    Hosts(commands::Look),
    Watch(commands::Watch),
    /// Let no further host get what is rolled out, for now
    Pause(commands::One),
    /// Let it go on
    Resume(commands::One),
    /// Have all hosts go back to what they had before the last roll-out
    Rollback(commands::One),
    /// Have a host accept nothing, while open requests go on
    Drain(commands::Host),
    /// Have it accept again
    Undrain(commands::Host),
}

impl Fleet {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("no descriptors for NATS")?;
        let done = runtime.block_on(async {
            match self.command {
                FleetCommand::Init(init) => init.run().await,
                FleetCommand::Push(push) => push.run().await,
                FleetCommand::RollOut(roll_out) => roll_out.run().await,
                FleetCommand::Upgrade(upgrade) => upgrade.run().await,
                FleetCommand::Status(look) => look.status().await,
                FleetCommand::Hosts(look) => look.hosts().await,
                FleetCommand::Watch(watch) => watch.run().await,
                FleetCommand::Pause(one) => one.pause(true).await,
                FleetCommand::Resume(one) => one.pause(false).await,
                FleetCommand::Rollback(one) => one.roll_back().await,
                FleetCommand::Drain(host) => host.drain(true).await,
                FleetCommand::Undrain(host) => host.drain(false).await,
            }
        });
        runtime.shutdown_background();
        done.map(|()| ExitCode::SUCCESS)
    }
}
