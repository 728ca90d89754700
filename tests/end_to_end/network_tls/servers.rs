//! Servers by others, and certificates for them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{is_installed, run};

/// A CA and a certificate by it, in files.
pub struct Certificates(TempDir);

impl Certificates {
    /// For a server of these names; `None` if they cannot be made.
    pub fn new(names: &str) -> Option<Self> {
        if !(is_installed("openssl") && is_installed("python3")) {
            return None;
        }
        let made = Self(TempDir::new().unwrap());
        fs::write(made.path("extensions"), format!("subjectAltName={names}")).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        made.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=Tests"));
        made.openssl(&format!("req {key} -keyout key.pem -out request.pem -subj /CN=server"));
        made.openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out cert.pem",
        );
        Some(made)
    }

    fn openssl(&self, args: &str) {
        let ended = run(Command::new("openssl").args(args.split(' ')).current_dir(&self.0));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn ca(&self) -> String {
        self.path("ca.pem").display().to_string()
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
        command.arg("-cert").arg(certificates.path("cert.pem"));
        Self::start(command.arg("-key").arg(certificates.path("key.pem")))
    }

    /// One in Python that does what the mode says.
    pub fn python(certificates: &Certificates, mode: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("end_to_end/network_tls/server.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(mode).arg(certificates.path("cert.pem"));
        Self::start(command.arg(certificates.path("key.pem")))
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
