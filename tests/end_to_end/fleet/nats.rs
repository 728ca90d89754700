//! A NATS server with JetStream, and what can be said to it without a client of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{is_installed, wait_until};

/// A server that is gone when this is dropped, with all that it kept.
pub struct Nats {
    directory: TempDir,
    server: Child,
    port: u16,
}

impl Nats {
    /// Starts one; `None`, and says so, if it is not installed.
    pub fn start() -> Option<Self> {
        Self::configured(|_| String::new())
    }

    /// With a configuration that may name files in the server's directory.
    pub fn configured(configuration: impl FnOnce(&TempDir) -> String) -> Option<Self> {
        if !is_installed("nats-server") {
            return None;
        }
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("nats.conf"), configuration(&directory)).unwrap();
        let server = serve(&directory, "-1");
        let mut nats = Self { directory, server, port: 0 };
        let ports = nats.directory.path().join(format!("nats-server_{}.ports", nats.server.id()));
        let read =
            || fs::read_to_string(&ports).ok()?.split_once("127.0.0.1:")?.1.split_once('"')?.0.parse().ok();
        wait_until(|| read().is_some());
        nats.port = read().unwrap();
        nats.wait();
        Some(nats)
    }

    fn wait(&self) {
        wait_until(|| TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn url(&self) -> String {
        self.url_as("")
    }

    /// As a user, `NAME:PASSWORD@`.
    pub fn url_as(&self, user: &str) -> String {
        format!("nats://{user}127.0.0.1:{}", self.port)
    }

    /// Ends it as a failing machine would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again where it was, with what it had.
    pub fn restart(&mut self) {
        self.server = serve(&self.directory, &self.port.to_string());
        self.wait();
    }

    /// Publishes something, and waits until the server has read it; what it complains of.
    pub fn publish(&self, user: Option<(&str, &str)>, subject: &str, payload: &[u8]) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let login = user
            .map(|(user, password)| format!(r#","user":"{user}","pass":"{password}""#))
            .unwrap_or_default();
        let connect = format!("CONNECT {{\"verbose\":false{login}}}\r\nPUB {subject} {}\r\n", payload.len());
        stream.write_all(&[connect.as_bytes(), payload, b"\r\nPING\r\n"].concat()).unwrap();
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|line| line != "PONG").filter(|line| line.starts_with("-ERR")).collect()
    }

    /// Writes a record as whoever may.
    pub fn put(&self, key: &str, record: &str) {
        assert!(self.publish(None, &format!("$KV.plugsock-fleet.{key}"), record.as_bytes()).is_empty());
    }
}

fn serve(directory: &TempDir, port: &str) -> Child {
    let path = |name: &str| directory.path().join(name);
    Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", port, "-js"])
        .arg("-c")
        .arg(path("nats.conf"))
        .arg("-sd")
        .arg(path("store"))
        .arg("--ports_file_dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
