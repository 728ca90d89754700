//! `plugsock config check`: whether a configuration can be served, without serving it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plugsock::shown;

use super::layers::CommandLine;
use crate::cli::output;
use crate::cli::plan::Plan;
use crate::cli::progress::spin_while;
use crate::cli::serve::ServeOptions;
use crate::cli::targets::sort_targets;
use crate::cli::tls::Certificates;

/// Check a configuration, handlers and certificates included, without serving it
///
/// Each handler is loaded as it would be to serve. Nothing is bound, and no probe is run.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 if it can be served, 1 if not.")]
pub struct Check {
    /// The configuration's file
    #[arg(value_name = "FILE")]
    config: PathBuf,

    #[command(flatten)]
    options: ServeOptions,
}

impl Check {
    pub fn run(self, args: Vec<OsString>) -> anyhow::Result<ExitCode> {
        let line = CommandLine::new::<Self>("plugsock config check", args)?;
        let plan = Plan::make(&line, Some(&self.config), &sort_targets(&[], None)?)?;
        plan.process.log.init()?;
        plugsock::become_helper_process_if_asked();
        // All that is wrong is said, and not what comes first alone.
        let mut is_fit = true;
        let mut say = |error: anyhow::Error| {
            is_fit = false;
            output::note(format!("plugsock: error: {}", plugsock::one_line(&format!("{error:#}"))));
        };
        for server in &plan.servers {
            let addresses: Vec<String> = server.addresses.iter().map(ToString::to_string).collect();
            let handler = &plan.handlers[server.handler];
            match plan.check(server).and_then(|()| Certificates::load(&server.args.tls)) {
                Ok(_) => {
                    output::print_line(format!("server   {} by {}", addresses.join(" "), handler.name))?;
                }
                Err(error) => say(error),
            }
        }
        let engine = plan.engine(false)?;
        let registry = plan.process.registry.clone().registry(None);
        for handler in &plan.handlers {
            let loading = format!("compiling {}", handler.source);
            let load = || Ok(handler.source.load(&handler.sandbox(&engine)?, &registry, None)?);
            match spin_while(&loading, load) {
                Ok(loaded) => output::print_line(format!(
                    "handler  {} {} {}",
                    handler.name,
                    loaded.name(),
                    loaded.digest()
                ))?,
                Err(error) => say(error),
            }
        }
        if is_fit {
            output::print_line(format!("{} can be served", shown(&self.config)))?;
        }
        Ok(if is_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
