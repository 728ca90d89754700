//! `plugsock helper-process`: what the host starts of itself; not for people.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::log::LogOptions;

/// Fork for each request, or compile a component, for the host that started this process
#[derive(Args, Debug)]
#[command(hide = true)]
pub struct HelperProcess {
    #[command(flatten)]
    log: LogOptions,
}

impl HelperProcess {
    /// The arguments that start a helper which logs as its host does.
    pub fn arguments(log: &LogOptions) -> Vec<OsString> {
        std::iter::once("helper-process".into()).chain(log.arguments()).collect()
    }

    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.log.init_to_serve()?.follow_host();
        plugsock::become_helper_process_if_asked();
        anyhow::bail!("only a host starts its helpers")
    }
}
