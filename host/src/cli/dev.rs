//! `plugsock dev`: edit, save, and the next request is answered by the new code.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use clap::{Args, Parser};
use plugsock::surroundings;

use super::sources::Sources;
use super::{Cli, Command, output};

/// Build the project in this folder, serve it, and build it again whenever a source file changes
///
/// What a compiler complains of is shown, and the version before serves on.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock dev
  plugsock dev tcp://127.0.0.1:7000 --concurrency async")]
pub struct Dev {
    /// Addresses and options, as of `plugsock serve`
    #[arg(value_name = "ADDRESS|OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    serve: Vec<String>,
}

impl Dev {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let folder = Path::new(".");
        surroundings::settle();
        // Its arguments are looked at before anything is built.
        let handler = folder.join("build/handler.wasm").display().to_string();
        let before = ["--watch", "--handler", &handler].map(str::to_owned);
        let args: Vec<String> = before.into_iter().chain(self.serve).collect();
        let named = ["plugsock", "serve"].map(str::to_owned);
        let cli = Cli::parse_from(named.iter().chain(&args));
        let Command::Serve(serve) = cli.command else { unreachable!("it says `serve`") };
        let mut sources = Sources::watch(folder);
        while let Err(error) = plugsock_project::build(folder) {
            output::note(format!("plugsock: error: {error}; waiting for a change"));
            sources.wait_for_change();
        }
        thread::Builder::new().name("dev".to_owned()).spawn(move || {
            loop {
                sources.wait_for_change();
                if let Err(error) = plugsock_project::build(folder) {
                    output::note(format!("plugsock: error: {error}; the version before serves on"));
                }
            }
        })?;
        // As the first process of its namespace it would reap the compilers, whose status is for the builds.
        serve.serve(args.into_iter().map(OsString::from).collect())
    }
}
