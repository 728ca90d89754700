//! The `plugsock` command: parses, runs, and maps errors to exit codes.

#![deny(unsafe_code)]
// They panic where nobody reads: `cli/output.rs` does not.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::try_parse().unwrap_or_else(|error| cli::exit(error));
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            let error = match error.downcast() {
                Ok(error) => cli::exit(error),
                Err(error) => error,
            };
            // Whoever started it may have closed its standard error.
            for line in cli::error_lines(&error) {
                let _ = writeln!(std::io::stderr(), "plugsock: error: {line}");
            }
            cli::exit_code(&error)
        }
    }
}
