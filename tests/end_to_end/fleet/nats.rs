//! A NATS server with JetStream, and what can be said to it without a client of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
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
        Self::started(configuration, &["-js"])
    }

    /// One that keeps nothing.
    pub fn configured_without_jetstream() -> Option<Self> {
        Self::started(|_| String::new(), &[])
    }

    fn started(configuration: impl FnOnce(&TempDir) -> String, args: &[&str]) -> Option<Self> {
        if !is_installed("nats-server") {
            return None;
        }
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("nats.conf"), configuration(&directory)).unwrap();
        let server = serve(&directory, "-1", args);
        let mut nats = Self { directory, server, port: 0 };
        nats.learn_port();
        Some(nats)
    }

    fn start_at(&mut self, port: &str) {
        self.server = serve(&self.directory, port, &["-js"]);
        self.learn_port();
    }

    /// As it says itself.
    fn learn_port(&mut self) {
        let ports = self.directory.path().join(format!("nats-server_{}.ports", self.server.id()));
        let read =
            || fs::read_to_string(&ports).ok()?.split_once("127.0.0.1:")?.1.split_once('"')?.0.parse().ok();
        wait_until(|| read().is_some());
        self.port = read().unwrap();
        self.wait();
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

    pub fn tls_url(&self) -> String {
        format!("tls://127.0.0.1:{}", self.port)
    }

    /// Removes a record while nobody but this hears of it: of a server that is away, at another port.
    pub fn remove_while_away(&mut self, key: &str) {
        let port = std::mem::replace(&mut self.port, 0);
        self.start_at("-1");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // With what says that it was removed, so that whoever comes again is told nothing of it.
        let filter = format!(r#"{{"filter":"$KV.plugsock-fleet.{key}"}}"#);
        let request = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.PURGE.KV_plugsock-fleet answer {}\r\n{filter}\r\n",
            filter.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("\"purged\":1")), "it was not removed");
        self.kill();
        self.port = port;
    }

    /// Ends it as a failing machine would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again where it was, with what it had.
    pub fn restart(&mut self) {
        self.server = serve(&self.directory, &self.port.to_string(), &["-js"]);
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

    /// Writes what a host says of itself, as that host.
    pub fn put_status(&self, host: &str, record: &str) {
        let subject = format!("$KV.plugsock-hosts.status.web.{host}");
        assert!(self.publish(None, &subject, record.as_bytes()).is_empty());
    }

    /// A record as it is now.
    pub fn get(&self, key: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let connect = r#"CONNECT {"verbose":false,"headers":true,"no_responders":true}"#;
        let subject = format!("$JS.API.DIRECT.GET.KV_plugsock-fleet.$KV.plugsock-fleet.{key}");
        stream
            .write_all(format!("{connect}\r\nSUB answer 1\r\nPUB {subject} answer 0\r\n\r\n").as_bytes())
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while !line.starts_with("HMSG answer 1 ") {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "no record {key}");
        }
        let mut lengths = line.split_whitespace().skip(3).map(|length| length.parse::<usize>().unwrap());
        let (headers, all) = (lengths.next().unwrap(), lengths.next().unwrap());
        let mut message = vec![0; all];
        reader.read_exact(&mut message).unwrap();
        String::from_utf8(message.split_off(headers)).unwrap()
    }
}

fn serve(directory: &TempDir, port: &str, args: &[&str]) -> Child {
    let path = |name: &str| directory.path().join(name);
    Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", port])
        .args(args)
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
