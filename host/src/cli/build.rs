//! `plugsock build`: a project's component.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output;

/// Build the handler of a project with its language's ordinary tools
///
/// It leaves the component at build/handler.wasm in the project's folder, and prints this path.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock build
  plugsock serve tcp://127.0.0.1:10001 $(plugsock build plugins/echo-c)")]
pub struct Build {
    /// The project's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Build {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        output::print_line(plugsock_project::build(&self.folder)?.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
