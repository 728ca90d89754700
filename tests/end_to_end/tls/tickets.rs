//! A session goes on with the certificate that it was begun with, and with no other, whatever becomes of the operator's files.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use plugsock::ServeAddress;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::certificates::{Ca, Certified};
use crate::harness::{Host, is_installed, plugin, plugsock};
use crate::upgrade::{end, upgrade};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// Files for OpenSSL and for the host.
struct Files {
    ca: Ca,
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { ca: Ca::new("the CA"), directory: TempDir::new().unwrap() };
        std::fs::write(files.path("ca.pem"), &files.ca.pem).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A certificate for the same name as all others.
    fn certified(&self) -> Certified {
        self.ca.server(&["localhost"])
    }

    /// Asks who is there by OpenSSL, and tells whether that resumed the session kept under this name, which is kept anew if it `begins`.
    fn is_resumed(&self, address: &ServeAddress, version: &str, session: &str, begins: bool) -> bool {
        let address = address.to_string();
        let address = address.strip_prefix("tls://").unwrap();
        let session = self.path(&format!("{session}{version}"));
        let kept = if begins { ["-sess_out", &session] } else { ["-sess_in", &session] };
        let mut openssl = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                address,
                "-servername",
                "localhost",
                "-CAfile",
                &self.path("ca.pem"),
            ])
            .args(["-verify_return_error", "-ign_eof", version])
            .args(kept)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The handler answers a line, and ends.
        openssl.stdin.take().unwrap().write_all(b"nobody\r\n").unwrap();
        let output = openssl.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        match (said.contains("\nReused, "), said.contains("\nNew, ")) {
            (true, false) => true,
            (false, true) => false,
            _ => panic!("{version}: {said}"),
        }
    }
}

fn configure(path: &Path, strategy: &str, identities: &[&str]) {
    let servers: String = identities
        .iter()
        .map(|identity| {
            format!("[[server]]\naddress = 'tls://127.0.0.1:0'\nconcurrency = '{strategy}'\ntls = ['{identity}']\n")
        })
        .collect();
    std::fs::write(path, format!("{servers}[handler.a]\nfile = '{}'\n", plugin("finger"))).unwrap();
}

#[test]
fn another_certificate_begins_another_session() {
    if !is_installed("openssl") {
        return;
    }
    for strategy in ["threading", "forking"] {
        let files = Files::new();
        let identity = files.certified().write(files.directory.path(), "main");
        let args = ["tls://127.0.0.1:0", &plugin("finger"), "--tls", &identity, "--concurrency", strategy];
        let host = Host::serve(&args);
        let is_resumed = |version, begins| files.is_resumed(host.address(), version, "session", begins);
        for version in VERSIONS {
            assert!(!is_resumed(version, true), "{strategy} {version}");
            assert!(is_resumed(version, false), "{strategy} {version}");
        }
        // The same file is no other.
        host.signal(Signal::HUP);
        host.log.wait_for("certificates loaded again");
        assert!(VERSIONS.iter().all(|version| is_resumed(version, false)), "{strategy}");
        files.certified().replace(files.directory.path(), "main");
        host.signal(Signal::HUP);
        host.log.wait_for_count("certificates loaded again", 2);
        for version in VERSIONS {
            assert!(!is_resumed(version, false), "{strategy} {version}");
        }
    }
}

/// Though another configuration names them in another order.
#[test]
fn whoever_takes_over_knows_the_sessions_of_each_certificate() {
    if !is_installed("openssl") {
        return;
    }
    for strategy in ["threading", "forking"] {
        let files = Files::new();
        let [one, other] = ["one", "other"].map(|name| files.certified().write(files.directory.path(), name));
        let path = files.directory.path().join("plugsock.toml");
        configure(&path, strategy, &[&one, &other]);
        let host = Host::serve_sockets(plugsock(), 2, &["--config", path.to_str().unwrap()]);
        let [first, second] = &host.addresses[..] else { panic!("there are two") };
        for version in VERSIONS {
            assert!(!files.is_resumed(first, version, "one", true));
            assert!(!files.is_resumed(second, version, "other", true));
            assert!(!files.is_resumed(second, version, "one", false), "{strategy} {version}");
        }
        // Sockets are known by what was asked for, and so stay in their order.
        configure(&path, strategy, &[&other, &one]);
        let successor = upgrade(&host);
        host.wait_for_exit();
        for version in VERSIONS {
            assert!(files.is_resumed(first, version, "other", false), "{strategy} {version}");
            assert!(files.is_resumed(second, version, "one", false), "{strategy} {version}");
            assert!(!files.is_resumed(first, version, "one", false), "{strategy} {version}");
            assert!(!files.is_resumed(second, version, "other", false), "{strategy} {version}");
        }
        end(host, successor);
    }
}
