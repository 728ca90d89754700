//! `plugsock sdk`: what a handler in some language is built with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plugsock_project::Language;

/// Write what a handler in some language is built with: the contract, and its bindings or SDK
///
/// The build of a project that `plugsock new` made calls it.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  plugsock sdk c --out build/sdk")]
pub struct Sdk {
    /// rust, c, zig, assemblyscript, go, python, js or ts
    language: Language,

    /// Where to
    #[arg(long, value_name = "FOLDER", default_value = "build/sdk")]
    out: PathBuf,
}

impl Sdk {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        plugsock_project::write_sdk(self.language, &self.out)?;
        Ok(ExitCode::SUCCESS)
    }
}
