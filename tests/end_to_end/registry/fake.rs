//! A registry of the tests' own, which answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use plugsock::Digest;

use crate::harness::PATIENCE;

/// What was asked: `GET /v2/…`, and the header and body.
pub struct Request {
    pub line: String,
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn is_for(&self, what: &str) -> bool {
        self.line.contains(what)
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            head += &line;
            line.clear();
        }
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let first = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
        Some(Self { line: first, head, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// How an answer is given, on a connection that ends with it.
type Answer = dyn Fn(&Request, &mut TcpStream) + Send + Sync;

pub struct Fake {
    pub host: String,
    /// The first lines of all that was asked.
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn new(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (asked, is_over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (lines, over, answer) =
            (asked.clone(), is_over.clone(), Arc::<Answer>::from(Box::new(answer) as Box<Answer>));
        let accepting = thread::spawn(move || {
            let mut answering = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                if over.load(SeqCst) {
                    break;
                }
                let (lines, answer) = (lines.clone(), answer.clone());
                answering.push(thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_write_timeout(Some(PATIENCE)).unwrap();
                    let Some(request) = Request::read(&stream) else { return };
                    lines.lock().unwrap().push(request.line.clone());
                    answer(&request, &mut stream);
                }));
            }
            answering.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Self { host, asked, is_over, accepting: Some(accepting) }
    }

    pub fn reference(&self) -> String {
        format!("oci://{}/echo:1", self.host)
    }

    /// How often this was asked for.
    pub fn count(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        let _ = TcpStream::connect(&self.host);
        let joined = self.accepting.take().unwrap().join();
        assert!(joined.is_ok() || thread::panicking());
    }
}

/// A component with its manifest.
pub struct Artifact {
    pub component: Vec<u8>,
    pub manifest: String,
}

impl Artifact {
    pub fn new(component: Vec<u8>) -> Self {
        let size = component.len() as u64;
        Self::of_size(component, size)
    }

    /// Whose manifest says that it has so many bytes.
    pub fn of_size(component: Vec<u8>, size: u64) -> Self {
        Self::with_layer(component, size, "application/wasm")
    }

    pub fn with_layer(component: Vec<u8>, size: u64, media_type: &str) -> Self {
        let (digest, none) = (Digest::of(&component), Digest::of(b"{}"));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{none}","size":2}},
            "layers":[{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}]}}"#
        );
        Self { component, manifest }
    }

    /// Answers as a registry should.
    pub fn answer(&self, request: &Request, stream: &mut TcpStream) {
        let is_head = request.line.starts_with("HEAD");
        let digest = format!("Docker-Content-Digest: {}\r\n", Digest::of(self.manifest.as_bytes()));
        if request.is_for("/manifests/") {
            let body = if is_head { "" } else { &self.manifest };
            give(stream, "200 OK", &digest, body.as_bytes());
        } else if request.is_for(&format!("/blobs/{}", Digest::of(&self.component))) {
            give(stream, "200 OK", "", &self.component);
        } else {
            give(stream, "404 Not Found", "", b"");
        }
    }
}

/// Gives a whole answer, unless the client has gone.
pub fn give(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

/// Waits until the client has gone.
pub fn wait_for_end(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}
