//! Components that export `wasi:http/incoming-handler`: each request of a connection has an instance and a version of its own.

mod answers;
mod asking;
mod browser;
mod command_line;
mod ends;
mod failures;
mod h2spec;
mod http2;
mod limits;
mod malformed;
mod outgoing;
mod swaps;

use std::process::Command;

use tempfile::TempDir;

use crate::harness::certificates::Ca;
use crate::harness::{Client, Host, guest, run};

/// A host that serves the guest `http` on a free port.
pub fn serve(strategy: &str, args: &[&str]) -> Host {
    Host::serve(&[&["tcp://127.0.0.1:0", &guest("http"), "--concurrency", strategy], args].concat())
}

pub fn url(host: &Host, path: &str) -> String {
    format!("http://{}{path}", authority(host))
}

/// A host that serves the guest `http` with TLS, by a certificate for `localhost`.
fn serve_tls(strategy: &str) -> Host {
    let directory = TempDir::new().unwrap();
    let identity = Ca::new("the CA").server(&["localhost"]).write(directory.path(), "main");
    Host::serve(&["tls://127.0.0.1:0", &guest("http"), "--tls", &identity, "--concurrency", strategy])
}

fn authority(host: &Host) -> String {
    host.address().to_string().split_once("://").unwrap().1.to_owned()
}

/// What `curl` prints, with a line end, which has to succeed.
pub fn curl(args: &[&str]) -> String {
    let ended = run(Command::new("curl").args(["-sS", "-m", "60"]).args(args));
    assert!(ended.code == Some(0), "curl {args:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// An answer, as it comes by a connection of HTTP/1.1.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads one answer, its body as it was sent.
    fn read(client: &Client) -> Self {
        let until = |end: &[u8]| {
            let mut come = Vec::new();
            while !come.ends_with(end) {
                come.extend(client.recv_exact(1));
            }
            come
        };
        let head = until(b"\r\n\r\n");
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let split =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: Vec<_> = lines.filter_map(split).collect();
        let mut answer = Self { status, headers, body: Vec::new() };
        answer.body = match answer.header("content-length") {
            Some(length) => client.recv_exact(length.parse().unwrap()),
            None if answer.header("transfer-encoding").is_some() => until(b"0\r\n\r\n"),
            None => Vec::new(),
        };
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Asks by a connection that is kept.
fn get(client: &Client, path: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    Answer::read(client)
}
