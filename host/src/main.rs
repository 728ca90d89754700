//! The `plugsock` command: parses, runs, and maps errors to exit codes.

#![deny(unsafe_code)]

mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // Whoever started it may have closed its standard error.
            let error_line = plugsock::one_line(&format!("{error:#}"));
            let _ = writeln!(std::io::stderr(), "plugsock: error: {error_line}");
            cli::exit_code(&error)
        }
    }
}
