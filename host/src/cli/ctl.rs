//! `plugsock ctl`: looks at servers that run, and changes them.

mod drain;
mod events;
pub mod tables;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use plugsock::control::{Answer, Command, ControlClient, ControlError, Published, find_control_socket};
use plugsock::{Digest, Share, one_line};
use serde::Serialize;

use super::handler_source::HandlerSource;
use super::log::parse_filter;

/// Look at a server that runs, and change it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock ctl status
  plugsock ctl swap echo-2.wasm
  plugsock ctl swap echo echo-2.wasm --canary 10% && plugsock ctl promote echo
  plugsock ctl events
  plugsock ctl drain --timeout 30s --control 4711 && plugsock ctl shutdown --control 4711

Exit status: 0 if it was done, 1 if the server refused or the time passed, 2 for wrong usage, 3 if there is no
server to ask, or several and none is named.")]
pub struct Ctl {
    #[command(flatten)]
    which: WhichServer,

    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Args, Debug)]
pub struct WhichServer {
    /// Which server, by its control socket or its process; by default the only one that this user runs
    #[arg(long, value_name = "PATH|PID", global = true)]
    control: Option<Whom>,
}

/// Whose control socket: by its path, or by its process.
#[derive(Clone, Debug)]
enum Whom {
    Socket(PathBuf),
    Process(u32),
}

impl FromStr for Whom {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Socket(text.into()), Self::Process))
    }
}

impl WhichServer {
    pub fn connect(&self) -> Result<ControlClient, ControlError> {
        let path = match &self.control {
            Some(Whom::Socket(path)) => path.clone(),
            Some(Whom::Process(pid)) => find_control_socket(Some(*pid))?,
            None => find_control_socket(None)?,
        };
        ControlClient::connect(&path)
    }
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Show the addresses, the handlers that serve them, and how requests go
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the versions that a slot has had, or every slot
    Versions {
        /// The slot
        name: Option<String>,

        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put another version of a handler in place; the old one serves on if anything is wrong with it
    #[command(allow_missing_positional = true)]
    Swap {
        /// The slot, if there are several
        name: Option<String>,

        /// The component's file, or oci://REGISTRY/NAME:TAG, which the server fetches
        #[arg(required = true, value_parser = HandlerSource::parser())]
        file: HandlerSource,

        /// Take this component alone, also where the server was started with another's --digest
        #[arg(long, value_name = "sha256:HEX")]
        digest: Option<Digest>,

        /// Give it this share of new requests until it is promoted or aborted
        #[arg(long, value_name = "SHARE")]
        canary: Option<Share>,

        /// Take it even if it was rolled back before
        #[arg(long)]
        force: bool,
    },
    /// Put the version before in place again
    Rollback {
        /// The slot, if there are several
        name: Option<String>,
    },
    /// Give the canary all new requests
    Promote {
        /// The slot, if there are several
        name: Option<String>,
    },
    /// Take the canary's share of requests back
    Abort {
        /// The slot, if there are several
        name: Option<String>,
    },
    /// Stop accepting, and wait until no request is open; new clients wait until `resume`
    Drain {
        /// How long to wait; the server does not accept afterwards either
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Accept again
    Resume,
    /// Have the executable on disk take over without a break, and end
    Upgrade,
    /// Stop accepting, let open requests end, and end; as SIGTERM, without waiting for it
    Shutdown,
    /// Follow what happens, a line of JSON each: swaps, rollbacks, refusals, failures, limits, drains, upgrades
    Events,
    /// Change what is logged
    LogLevel {
        /// A level (error, warn, info, debug, trace) or a filter such as `warn,guest=info`
        #[arg(value_parser = parse_filter)]
        filter: String,
    },
}

impl Ctl {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut client = self.which.connect()?;
        match self.command {
            CtlCommand::Status { json } => match client.ask(&Command::Status {})? {
                Answer::Status(status) if json => print_json(&status)?,
                Answer::Status(status) => print!("{}", tables::status(&status)),
                other => return unexpected(&other),
            },
            CtlCommand::Versions { name, json } => match client.ask(&Command::Versions { slot: name })? {
                Answer::Versions(slots) if json => print_json(&slots)?,
                Answer::Versions(slots) => print!("{}", tables::versions(&slots)),
                other => return unexpected(&other),
            },
            CtlCommand::Swap { name, file, digest, canary, force } => {
                let file = match file {
                    // Whatever directory the server runs in.
                    HandlerSource::File(file) => std::path::absolute(file)?,
                    other => other.to_string().into(),
                };
                let swap = Command::Swap { slot: name, file, digest, canary, force };
                let published = change(&mut client, swap)?;
                let Published { slot, generation, digest, .. } = &published;
                match canary {
                    _ if !published.is_changed => {
                        println!(
                            "{slot}: unchanged, since {digest} serves already, as generation {generation}"
                        );
                    }
                    Some(share) => {
                        println!("{slot}: generation {generation} gets {share} of new requests, {digest}");
                    }
                    None => println!("{slot}: generation {generation} serves, {digest}"),
                }
            }
            CtlCommand::Rollback { name } => serves(change(&mut client, Command::Rollback { slot: name })?),
            CtlCommand::Promote { name } => serves(change(&mut client, Command::Promote { slot: name })?),
            CtlCommand::Abort { name } => serves(change(&mut client, Command::Abort { slot: name })?),
            CtlCommand::Drain { timeout } => drain::drain(&mut client, timeout)?,
            CtlCommand::Resume => done(&mut client, &Command::Resume {}, "accepting again")?,
            CtlCommand::Upgrade => match client.ask(&Command::Upgrade {})? {
                Answer::Upgraded { pid } => println!("process {pid} has taken over"),
                other => return unexpected(&other),
            },
            CtlCommand::Shutdown => done(&mut client, &Command::Shutdown {}, "shutting down")?,
            CtlCommand::Events => events::follow(client)?,
            CtlCommand::LogLevel { filter } => {
                let said = format!("logging {filter}");
                done(&mut client, &Command::LogLevel { filter }, &said)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn change(client: &mut ControlClient, command: Command) -> anyhow::Result<Published> {
    match client.ask(&command)? {
        Answer::Swapped(Published { slot, is_changed, generation, digest }) => {
            // To be printed.
            Ok(Published { slot: one_line(&slot), digest: one_line(&digest), is_changed, generation })
        }
        other => unexpected(&other),
    }
}

fn serves(published: Published) {
    let Published { slot, generation, digest, .. } = published;
    println!("{slot}: generation {generation} serves, {digest}");
}

fn done(client: &mut ControlClient, command: &Command, said: &str) -> anyhow::Result<()> {
    match client.ask(command)? {
        Answer::Done { note: None } => println!("{said}"),
        Answer::Done { note: Some(note) } => println!("{said}; {}", one_line(&note)),
        other => return unexpected(&other),
    }
    Ok(())
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

pub fn unexpected<T>(answer: &Answer) -> anyhow::Result<T> {
    anyhow::bail!("the server answers something else than was asked: {answer:?}")
}
