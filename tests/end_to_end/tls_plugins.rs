//! The plugins that protect connections themselves, asked by clients that nobody here wrote.

mod gemini;
mod smtp;

use std::process::Command;

use crate::harness::{Ended, Host, run};

const TCP: &str = "tcp://127.0.0.1:0";

/// A server that protects before its handler sees anything.
const TLS: &str = "tls://127.0.0.1:0";

fn port(host: &Host) -> String {
    host.address().to_string().rsplit(':').next().unwrap().to_owned()
}

/// Runs a script in Python that has to succeed; what it prints.
fn python(script: &str, args: &[&str]) -> String {
    let ended = run(Command::new("python3").args(["-c", script]).args(args));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// Runs a client by the shell.
fn shell(command: &str) -> Ended {
    run(Command::new("sh").args(["-c", command]))
}
