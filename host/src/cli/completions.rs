//! `plugsock completions`: what a shell completes this command by.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, output};

/// Print a script by which a shell completes this command
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  plugsock completions bash > ~/.local/share/bash-completion/completions/plugsock
  plugsock completions zsh > /usr/local/share/zsh/site-functions/_plugsock
  plugsock completions fish > ~/.config/fish/completions/plugsock.fish";

impl Completions {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut for_people(), "plugsock", &mut script);
        output::print(&String::from_utf8(script)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The command without what is not for people, which the scripts would offer.
fn for_people() -> clap::Command {
    let all = Cli::command();
    let subcommands = all.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    clap::Command::new("plugsock")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(all.get_arguments())
        .subcommands(subcommands)
}
