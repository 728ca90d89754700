//! `plugsock man`: manual pages, made of the same words as `--help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, roman};
use plugsock::shown;

use super::Cli;
use super::whole_file::write_whole;

/// Write manual pages into a directory: one for plugsock, and one for each subcommand
#[derive(Args, Debug)]
#[command(after_help = "Example:
  plugsock man /usr/local/share/man/man1 && man plugsock-serve")]
pub struct Man {
    /// Where to; made if it is not there
    directory: PathBuf,
}

impl Man {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let directory = &self.directory;
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        fs::create_dir_all(directory)
            .map_err(anyhow::Error::from)
            .and_then(|()| write_pages(&command, directory))
            .with_context(|| format!("cannot write manual pages to {}", shown(directory)))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write_pages(command: &clap::Command, directory: &Path) -> anyhow::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, directory)?;
    }
    let page = Page::new(command.clone()).manual("Plugsock");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(notes) = command.get_after_help() {
        render_notes(&notes.to_string()).to_writer(&mut text)?;
    }
    // As a whole, so that nobody finds half a page.
    write_whole(&directory.join(page.get_filename()), &text)
}

/// What follows the options in `--help`: its examples keep their lines, which a page would run together.
fn render_notes(notes: &str) -> Roff {
    let mut roff = Roff::new();
    let mut in_notes = false;
    for paragraph in notes.split("\n\n") {
        let examples =
            paragraph.split_once('\n').filter(|(first, _)| ["Example:", "Examples:"].contains(first));
        match examples {
            Some(_) => roff.control("SH", ["EXAMPLES"]).control("nf", []),
            None if in_notes => roff.control("PP", []),
            None => roff.control("SH", ["NOTES"]),
        };
        in_notes = examples.is_none();
        for line in examples.map_or(paragraph, |(_, examples)| examples).lines() {
            roff.text([roman(line.trim_start())]);
        }
        if examples.is_some() {
            roff.control("fi", []);
        }
    }
    roff
}
