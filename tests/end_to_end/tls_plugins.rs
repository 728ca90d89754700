//! The plugins that protect connections themselves, asked by clients that nobody here wrote.

mod gemini;
mod smtp;

use std::process::Command;

use crate::harness::{Authority, Ended, Host, plugin, plugsock, run};

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

#[test]
fn a_server_does_not_start_with_a_certificate_that_has_expired() {
    let authority = Authority::new();
    let identity = authority.expired_server(&["localhost"]).option("old");
    let ended = run(plugsock().args(["serve", TCP, "--no-cache", "--tls", &identity, &plugin("gemini")]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("expired"), "{ended:?}");
}
