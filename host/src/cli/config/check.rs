//! `plugsock config check`: whether a configuration can be served, without serving it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use plugsock::shown;
use serde::Serialize;

use super::layers::CommandLine;
use crate::cli::plan::Plan;
use crate::cli::progress::spin_while;
use crate::cli::serve::ServeOptions;
use crate::cli::targets::sort_targets;
use crate::cli::tls::Certificates;
use crate::cli::{error_lines, output};

/// Check a configuration, handlers and certificates included, without serving it
///
/// Each handler is loaded as it would be to serve. Nothing is bound, and no probe is run.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 if it can be served, 1 if not.")]
pub struct Check {
    /// The configuration's file
    #[arg(value_name = "FILE")]
    config: PathBuf,

    /// Print what was found as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: ServeOptions,
}

/// What is to be served, and what keeps it from that.
#[derive(Default, Serialize)]
struct Found {
    servers: Vec<FoundServer>,
    handlers: Vec<FoundHandler>,
    /// A line each, those of the file with their place.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct FoundServer {
    addresses: Vec<String>,
    handler: String,
}

#[derive(Serialize)]
struct FoundHandler {
    name: String,
    file: String,
    digest: String,
}

impl Check {
    pub fn run(self, args: Vec<OsString>) -> anyhow::Result<ExitCode> {
        let line = CommandLine::new::<Self>("plugsock config check", args)?;
        let found = self.find(&line).unwrap_or_else(Found::nothing_but);
        match self.json {
            true => output::print_json(&found)?,
            false => found.print(&self.config)?,
        }
        Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Looks at all of it; an error is what keeps it from that.
    fn find(&self, line: &CommandLine) -> anyhow::Result<Found> {
        let plan = Plan::make(line, Some(&self.config), &sort_targets(&[], None)?)?;
        plan.process.log.init()?;
        plugsock::become_helper_process_if_asked();
        let mut found = Found::default();
        found.note(plan.process.telemetry.check());
        found.note(plan.process.fleet.membership(&plan.handlers));
        for (number, server) in plan.servers.iter().enumerate() {
            let certificates = || Certificates::load(&server.args.tls).map_err(|error| server.blame(error));
            if found.note(plan.check_server(server).and_then(|()| certificates())).is_some() {
                let addresses = plan.addresses(number, false).iter().map(ToString::to_string).collect();
                let handler = plan.handlers[server.handler].name.clone();
                found.servers.push(FoundServer { addresses, handler });
            }
        }
        let engine = plan.engine(false)?;
        let registry = plan.process.registry.clone().registry(None);
        for (number, handler) in plan.handlers.iter().enumerate() {
            let loading = format!("compiling {}", handler.source);
            let load = || anyhow::Ok(handler.source.load(&handler.sandbox(&engine)?, &registry, None)?);
            let loaded = spin_while(&loading, load).map_err(|error| handler.blame(error));
            let Some(loaded) = found.note(loaded) else { continue };
            let (file, digest) = (loaded.name().to_owned(), loaded.digest().to_string());
            found.handlers.push(FoundHandler { name: handler.name.clone(), file, digest });
            for server in plan.servers.iter().filter(|server| server.handler == number) {
                for address in &server.addresses {
                    let unfit = loaded.unfit_for(address.server_type());
                    let unfit = unfit.map(|reason| server.blame(anyhow!("cannot serve {address}: {reason}")));
                    found.note(unfit.map_or(Ok(()), Err));
                }
            }
        }
        Ok(found)
    }
}

impl Found {
    fn nothing_but(error: anyhow::Error) -> Self {
        Self { problems: error_lines(&error), ..Self::default() }
    }

    /// All that is wrong is noted, and not what comes first alone.
    fn note<T>(&mut self, done: anyhow::Result<T>) -> Option<T> {
        done.map_err(|error| self.problems.extend(error_lines(&error))).ok()
    }

    fn print(&self, config: &Path) -> anyhow::Result<()> {
        for FoundServer { addresses, handler } in &self.servers {
            output::print_line(format!("server   {} by {handler}", addresses.join(" ")))?;
        }
        for FoundHandler { name, file, digest } in &self.handlers {
            output::print_line(format!("handler  {name} {file} {digest}"))?;
        }
        self.problems.iter().for_each(|problem| output::note(format!("plugsock: error: {problem}")));
        if self.problems.is_empty() {
            output::print_line(format!("{} can be served", shown(config)))?;
        }
        Ok(())
    }
}
