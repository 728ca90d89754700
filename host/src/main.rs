//! The `plugsock` command: parses, runs, and maps errors to exit codes.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plugsock: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
