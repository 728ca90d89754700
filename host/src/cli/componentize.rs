//! `plugsock componentize`: a component from what most compilers write.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

/// Make a core WebAssembly module a component
///
/// The module exports what the contract has. A program for WASI preview 1 needs no component: it is served as it is, and
/// with no adapter in its memory
#[derive(Args, Debug)]
#[command(after_help = "Example:
  plugsock componentize build/core.wasm --out build/handler.wasm")]
pub struct Componentize {
    /// The core module
    module: PathBuf,

    /// Where to write the component
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Componentize {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let module = self.module.display();
        let core = std::fs::read(&self.module).with_context(|| format!("cannot read {module}"))?;
        let component = plugsock_project::componentize(&core)
            .with_context(|| format!("cannot make a component of {module}"))?;
        std::fs::write(&self.out, component)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
