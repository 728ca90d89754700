//! Debian's `docker-registry`, on a port that it finds itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use tempfile::TempDir;

use super::{User, done};
use crate::harness::{Deployed, PATIENCE, is_installed};

/// How a registry is set up.
#[derive(Default)]
pub struct Settings {
    /// Whether it lets in nobody but `user`, whose password is `secret`.
    pub has_password: bool,
    /// The files of its certificate and key.
    pub tls: Option<(String, String)>,
}

/// A registry, gone with all that it stores when this is dropped.
pub struct DockerRegistry {
    process: Child,
    port: u16,
    settings: Settings,
    directory: TempDir,
}

impl DockerRegistry {
    /// `None` where it is not installed, which is said.
    pub fn start(settings: Settings) -> Option<Self> {
        if !is_installed("docker-registry") {
            return None;
        }
        let directory = TempDir::new().unwrap();
        let (process, port) = launch(&directory, &settings, 0);
        Some(Self { process, port, settings, directory })
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The argument of `--registry-plain-http`.
    pub fn plain_http(&self) -> String {
        self.host()
    }

    pub fn reference(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.host())
    }

    /// Pushes a component; the reference that leads to it.
    pub fn push(&self, user: &User, component: &[u8], name: &str) -> String {
        let (deployed, reference, plain) =
            (Deployed::new(component), self.reference(name), self.plain_http());
        let pushed = user.run(&["push", &deployed.path(), &reference, "--registry-plain-http", &plain]);
        done(pushed).trim().to_owned()
    }

    /// What it has there, as anybody sees it.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let accept = "application/vnd.oci.image.manifest.v1+json";
        write!(stream, "GET {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        answer.split_off(end + 4)
    }

    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again, at the same address and with what it stored.
    pub fn restart(&mut self) {
        (self.process, _) = launch(&self.directory, &self.settings, self.port);
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts it, and waits until it listens; its port.
fn launch(directory: &TempDir, settings: &Settings, port: u16) -> (Child, u16) {
    let at = |name: &str| directory.path().join(name).display().to_string();
    let mut config = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\n\
         http:\n  addr: '127.0.0.1:{port}'\n  secret: test\n",
        at("store")
    );
    if let Some((certificate, key)) = &settings.tls {
        config += &format!("  tls: {{certificate: '{certificate}', key: '{key}'}}\n");
    }
    if settings.has_password {
        // What `htpasswd -B` makes of `secret`.
        let hash = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";
        fs::write(at("htpasswd"), format!("user:{hash}\n")).unwrap();
        config += &format!("auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n", at("htpasswd"));
    }
    fs::write(at("config.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command
        .arg("serve")
        .arg(at("config.yml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let log = BufReader::new(process.stderr.take().unwrap());
    let (said, listening) = channel();
    thread::spawn(move || {
        // To its end, so that it never waits for a reader.
        for line in log.lines().map_while(Result::ok) {
            let port = line.split("listening on 127.0.0.1:").nth(1).map(str::to_owned);
            let _ = port.map(|port| said.send(port));
        }
    });
    let port = listening.recv_timeout(PATIENCE).expect("docker-registry does not listen");
    let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
    (process, digits.parse().unwrap())
}
