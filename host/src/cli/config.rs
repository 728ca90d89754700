//! `plugsock config`: what is in force and where it comes from, what may stand in a file, and whether one is fit.

mod check;
pub mod file;
pub mod keys;
pub mod layers;
mod paths;
mod schema;
mod show;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Look at the configuration of `plugsock serve`
///
/// A configuration's file is TOML. Its keys are the long options of `plugsock serve`, in tables by what they concern; in
/// [[server]] and [handler.NAME] they are for that one alone. The command line and the environment go before it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock config check plugsock.toml && plugsock serve --config plugsock.toml
  plugsock config show --config plugsock.toml --memory 64MiB
  plugsock config schema > plugsock.schema.json")]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Show(Box<show::Show>),
    Schema(schema::Schema),
    Check(Box<check::Check>),
}

impl Config {
    /// `args` are those after the subcommand's own name.
    pub fn run(self, args: Vec<OsString>) -> anyhow::Result<ExitCode> {
        match self.command {
            ConfigCommand::Show(show) => show.run(args),
            ConfigCommand::Schema(schema) => schema.run(),
            ConfigCommand::Check(check) => check.run(args),
        }
    }
}
