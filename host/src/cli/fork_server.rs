//! `plugsock fork-server`: what `--concurrency forking` starts; not for people.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::log::LogOptions;

/// Fork for each request of the host that started this process
#[derive(Args, Debug)]
#[command(hide = true)]
pub struct ForkServer {
    #[command(flatten)]
    log: LogOptions,
}

impl ForkServer {
    /// The arguments that start a fork server which logs as its host does.
    pub fn arguments(log: &LogOptions) -> Vec<OsString> {
        std::iter::once("fork-server".into()).chain(log.arguments()).collect()
    }

    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.log.init();
        plugsock::become_fork_server_if_asked();
        anyhow::bail!("only `plugsock serve --concurrency forking` starts a fork server")
    }
}
