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

use super::handler_source::HandlerSource;
use super::log::parse_filter;
use super::options::parse_duration;
use super::output;

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

    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,

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
    Status,
    /// Show the versions that a slot has had, or every slot
    Versions {
        /// The slot
        name: Option<String>,
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
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Accept again
    Resume,
    /// Load the configuration, handlers and certificates again; all as before if anything is wrong with them
    Reload,
    /// Have the executable on disk take over without a break, and end
    Upgrade,
    /// Stop accepting, let open requests end, and end; as SIGTERM, without waiting for it
    Shutdown,
    /// Follow what happens, a line of JSON each: swaps, rollbacks, refusals, failures, limits, drains, upgrades
    Events,
    /// Change what is logged
    LogLevel {
        /// A level (off, error, warn, info, debug, trace) or a filter such as `warn,guest=info`
        #[arg(value_parser = parse_filter)]
        filter: String,
    },
}

impl Ctl {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.which.connect()?;
        Asking { client, json: self.json }.run(self.command).map(|()| ExitCode::SUCCESS)
    }
}

/// A conversation with a server.
struct Asking {
    client: ControlClient,
    json: bool,
}

impl Asking {
    fn run(mut self, command: CtlCommand) -> anyhow::Result<()> {
        match command {
            CtlCommand::Status => self.say(&Command::Status {}, |answer| match answer {
                Answer::Status(status) => Ok(tables::status(status, output::width())),
                other => unexpected(other),
            }),
            CtlCommand::Versions { name } => {
                self.say(&Command::Versions { slot: name }, |answer| match answer {
                    Answer::Versions(slots) => Ok(tables::versions(slots, output::width())),
                    other => unexpected(other),
                })
            }
            CtlCommand::Swap { name, file, digest, canary, force } => {
                let file = match file {
                    // Whatever directory the server runs in.
                    HandlerSource::File(file) => std::path::absolute(file)?,
                    other => other.to_string().into(),
                };
                let swap = Command::Swap { slot: name, file, digest, canary, force };
                self.change(&swap, |Published { slot, is_changed, generation, digest }| match canary {
                    _ if !is_changed => {
                        format!(
                            "{slot}: unchanged, since {digest} serves already, as generation {generation}"
                        )
                    }
                    Some(share) => {
                        format!("{slot}: generation {generation} gets {share} of new requests, {digest}")
                    }
                    None => format!("{slot}: generation {generation} serves, {digest}"),
                })
            }
            CtlCommand::Rollback { name } => self.change(&Command::Rollback { slot: name }, serves),
            CtlCommand::Promote { name } => self.change(&Command::Promote { slot: name }, serves),
            CtlCommand::Abort { name } => self.change(&Command::Abort { slot: name }, serves),
            CtlCommand::Drain { timeout } => drain::drain(&mut self, timeout),
            CtlCommand::Resume => self.done(&Command::Resume {}, "accepting again"),
            CtlCommand::Reload => self.say(&Command::Reload {}, |answer| match answer {
                Answer::Reloaded { changes } if changes.is_empty() => Ok("nothing has changed\n".to_owned()),
                Answer::Reloaded { changes } => {
                    Ok(changes.iter().map(|change| one_line(change) + "\n").collect())
                }
                other => unexpected(other),
            }),
            CtlCommand::Upgrade => self.say(&Command::Upgrade {}, |answer| match answer {
                Answer::Upgraded { pid } => Ok(format!("process {pid} has taken over\n")),
                other => unexpected(other),
            }),
            CtlCommand::Shutdown => self.done(&Command::Shutdown {}, "shutting down"),
            CtlCommand::Events => events::follow(self.client),
            CtlCommand::LogLevel { filter } => {
                let said = format!("logging {filter}");
                self.done(&Command::LogLevel { filter }, &said)
            }
        }
    }

    /// Asks for something, and prints the answer: in words, or as the server gave it.
    fn say(
        &mut self,
        command: &Command,
        words: impl FnOnce(&Answer) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let answer = self.client.ask(command)?;
        let text = words(&answer)?;
        match (self.json, &answer) {
            (false, _) => output::print(&text),
            (true, Answer::Status(status)) => output::print_json(status),
            (true, Answer::Versions(slots)) => output::print_json(slots),
            (true, Answer::Swapped(published)) => output::print_json(published),
            (true, answer) => output::print_json(answer),
        }
    }

    /// Asks for another version.
    fn change(&mut self, command: &Command, words: impl FnOnce(Published) -> String) -> anyhow::Result<()> {
        self.say(command, |answer| match answer {
            Answer::Swapped(Published { slot, is_changed, generation, digest }) => {
                // To be printed.
                let (slot, digest) = (one_line(slot), one_line(digest));
                let published = Published { slot, is_changed: *is_changed, generation: *generation, digest };
                Ok(words(published) + "\n")
            }
            other => unexpected(other),
        })
    }

    fn done(&mut self, command: &Command, said: &str) -> anyhow::Result<()> {
        self.say(command, |answer| match answer {
            Answer::Done { note: None } => Ok(format!("{said}\n")),
            Answer::Done { note: Some(note) } => Ok(format!("{said}; {}\n", one_line(note))),
            other => unexpected(other),
        })
    }
}

fn serves(published: Published) -> String {
    let Published { slot, generation, digest, .. } = published;
    format!("{slot}: generation {generation} serves, {digest}")
}

pub fn unexpected<T>(answer: &Answer) -> anyhow::Result<T> {
    anyhow::bail!("the server answers something else than was asked: {answer:?}")
}
