//! `plugsock wit`: the contract, for people who bring their own tools.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output;

/// Print the contract between host and handler
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock wit
  plugsock wit --out wit && wit-bindgen c wit --world handler")]
pub struct Wit {
    /// Write it into this folder, with what it uses of WASI
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Wit {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.out {
            Some(folder) => plugsock_project::write_wit(&folder)?,
            None => output::print(plugsock_project::CONTRACT)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
