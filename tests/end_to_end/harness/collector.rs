//! A collector of OpenTelemetry's, of the plainest sort.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::PATIENCE;

/// Its threads end with the test's process.
pub struct Collector {
    port: u16,
    exports: Receiver<Export>,
}

/// What a collector has received.
pub struct Export {
    pub path: String,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Collector {
    /// One that answers with this status.
    pub fn start(status: &'static str) -> Self {
        Self::start_at(0, status)
    }

    pub fn start_at(port: u16, status: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, exports) = channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut connection = BufReader::new(connection.unwrap());
                    while let Some(export) = receive(&mut connection) {
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                        // A host that ends does not wait for it.
                        let _ = connection.get_mut().write_all(answer.as_bytes());
                        let _ = sender.send(export);
                    }
                });
            }
        });
        Self { port, exports }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What comes next, but for what comes to this path.
    pub fn next_but(&self, path: &str) -> Export {
        loop {
            let export = self.exports.recv_timeout(PATIENCE).expect("nothing is sent");
            if export.path != path {
                return export;
            }
        }
    }

    /// Whether there is nothing that was not taken yet.
    pub fn is_idle(&self) -> bool {
        self.exports.try_recv().is_err()
    }

    /// What has come by now, and was not taken yet.
    pub fn rest(&self) -> Vec<Export> {
        self.exports.try_iter().collect()
    }
}

fn receive(connection: &mut BufReader<TcpStream>) -> Option<Export> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let mut body = vec![0; header("content-length").unwrap().parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    let path = head.split(' ').nth(1).unwrap().to_owned();
    Some(Export { path, head, body })
}
