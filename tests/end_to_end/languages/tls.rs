//! TLS that begins after a command, in every language: the same handlers, asked by Python's `ssl`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use plugsock::{Cause, Handler, ServeAddress, ServerOptions, ServerType};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::{load, phases_of, start};
use crate::harness::{Host, Recorder, is_installed, run};

/// What the client asks for.
const SERVER_NAME: &str = "plugsock.test";

#[test]
fn rust() {
    starts_tls("rust");
}

#[test]
fn c() {
    starts_tls("c");
}

#[test]
fn zig() {
    starts_tls("zig");
}

#[test]
fn assemblyscript() {
    starts_tls("assemblyscript");
}

#[test]
fn go() {
    starts_tls("go");
}

#[test]
fn python() {
    starts_tls("python");
}

#[test]
fn js() {
    starts_tls("js");
}

#[test]
fn ts() {
    starts_tls("ts");
}

fn starts_tls(language: &'static str) {
    if !is_installed("python3") {
        return;
    }
    let project = phases_of(language);
    // Compiled in this process: into the cache, from which the host takes it at once.
    let Some(_) = load(project) else { return };
    let component = project.build().unwrap().display().to_string();
    let directory = TempDir::new().unwrap();
    let [certificate, key] = identity(directory.path());
    let identity = format!("{certificate},{key}");
    for strategy in ["threading", "async", "forking"] {
        let [tls, ca] = [format!("--tls=test={identity}"), format!("--tls-client-ca={certificate}")];
        let addresses = ["tcp://127.0.0.1:0", "tls://127.0.0.1:0"];
        let args = [&component, &tls, &ca, "--tls-client-auth", "request", "--concurrency", strategy];
        let host = Host::serve(&[&addresses[..], &args].concat());
        let client = |way: &str| client(&host.addresses[0], directory.path(), way);
        client("echoes");
        client("echoes named");
        client("shows a certificate");
        client("ends without notice");
        host.log.wait_for("closed the connection without notice");
        client("another name");
        host.log.wait_for("no certificate for this");
        client("speaks too early");
        host.log.wait_for("in the clear where TLS was to begin");
        client("has no protocol in common");
        host.log.wait_for("the TLS handshake failed");
        self::client(&host.addresses[1], directory.path(), "is protected already");
        host.log.wait_for("the connection is protected already");
    }
}

/// The files of a certificate and its key; the client trusts it, and shows the same if it shows one.
fn identity(directory: &Path) -> [String; 2] {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.join(name));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    [certificate, key].map(|path| path.display().to_string())
}

/// A client that behaves in one way, and judges by itself what it gets.
fn client(server: &ServeAddress, directory: &Path, way: &str) {
    let port = server.to_string().rsplit(':').next().unwrap().to_owned();
    let mut client = Command::new("python3");
    client.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/starttls.py"));
    client
        .args([&port, SERVER_NAME, way])
        .args(["certificate.pem", "key.pem"].map(|name| directory.join(name)));
    let ended = run(&mut client);
    assert_eq!(ended.code, Some(0), "{way}: {ended:?}");
}

/// What a handler reports when it asks for TLS and cannot have it; the server has no certificate.
pub(super) fn refusals_are_reported(handler: &Handler, strategy: &'static str) {
    for (sent, wanted) in [
        ("STARTTLS\n", "no certificate for this"),
        ("STARTTLS nobody\n", "no certificate for this"),
        ("STARTTLS\nand more", "in the clear where TLS was to begin"),
    ] {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let server = start(handler, ServerType::Tcp, strategy, options);
        let client = server.connect();
        client.send(sent.as_bytes());
        let answer = client.recv_all();
        // Where the connection is as it was, `finish` has it in the clear.
        let is_over = sent.ends_with("more");
        assert_eq!(
            answer,
            if is_over { b"go ahead\n".as_slice() } else { b"go ahead\nfinish\n" },
            "{sent:?}"
        );
        let failures = recorder.failures_when_closed(1);
        let Some(Cause::Error(words)) = failures.first().map(|failure| &failure.cause) else {
            panic!("{sent:?}: {failures:?}");
        };
        assert!(words.contains(wanted), "{sent:?}: {words}");
    }
}
