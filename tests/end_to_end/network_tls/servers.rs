//! Servers by others, and certificates for them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::harness::{Authority, Identity, is_installed};

/// Who vouches for a server, and the server's certificate.
pub struct Certificates {
    authority: Authority,
    pub server: Identity,
}

impl Certificates {
    /// For a server of these names; `None` where there are no such servers.
    pub fn new(names: &[&str]) -> Option<Self> {
        if !(is_installed("openssl") && is_installed("python3")) {
            return None;
        }
        let authority = Authority::new();
        Some(Self { server: authority.server(names), authority })
    }

    pub fn ca(&self) -> &str {
        &self.authority.certificate
    }
}

/// A server process, which is gone when this is dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub port: u16,
}

impl Server {
    /// OpenSSL's own, which turns lines round.
    pub fn openssl(certificates: &Certificates, version: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-rev", version]);
        command.arg("-cert").arg(&certificates.server.certificate);
        Self::start(command.arg("-key").arg(&certificates.server.key))
    }

    /// One in Python that does what the mode says.
    pub fn python(certificates: &Certificates, mode: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("end_to_end/network_tls/server.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(mode).arg(&certificates.server.certificate);
        Self::start(command.arg(&certificates.server.key))
    }

    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, stdout, port: 0 };
        // `PORT`, or `ACCEPT HOST:PORT` among other lines.
        server.port = loop {
            let line = server.line();
            let number = line.rsplit(':').next().unwrap_or_default();
            if let Ok(port) = number.trim().parse() {
                break port;
            }
        };
        server
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the server has ended");
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
