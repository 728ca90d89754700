//! One conformance test for handlers in every language: built from source, and served by the real host.

mod features;
mod state;
mod tls;

use std::sync::Arc;
use std::thread;

use plugsock::{Cause, Handler, ServerOptions, ServerType};

use crate::harness::{Case, Project, Recorder, Running, STRATEGIES, pattern, sandbox};

/// The handlers that fail in the phase that the first line names, and the file of a project that each takes the place of.
const PHASES_OF: [(&str, (&str, &str)); 8] = [
    ("rust", ("phases.rs", "src/lib.rs")),
    ("c", ("phases.c", "handler.c")),
    ("zig", ("phases.zig", "handler.zig")),
    ("assemblyscript", ("phases.as.ts", "handler.ts")),
    ("go", ("phases.go", "handler.go")),
    ("python", ("phases.py", "handler.py")),
    ("js", ("phases.js", "handler.js")),
    ("ts", ("phases.ts", "handler.ts")),
];

/// Where buffers end.
const LENGTHS: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 3 << 20];

/// A line that asks for a failure in a phase, and what the client gets.
const PHASES: [(&str, &str); 4] = [
    ("setup", ""),
    ("handle", "handle\nfinish\n"),
    ("finish", "handle\nfinish\n"),
    ("nowhere", "handle\nfinish\n"),
];

#[test]
fn rust() {
    conforms("rust");
}

#[test]
fn c() {
    conforms("c");
}

#[test]
fn zig() {
    conforms("zig");
}

#[test]
fn assemblyscript() {
    conforms("assemblyscript");
}

#[test]
fn go() {
    conforms("go");
}

#[test]
fn python() {
    conforms("python");
}

#[test]
fn js() {
    conforms("js");
}

#[test]
fn ts() {
    conforms("ts");
}

/// What the templates link is as small as the plugins that ship, where there is a linker to tell.
#[test]
fn templates_are_linked_lean() {
    let projects =
        [("rust", "stream"), ("rust", "command"), ("c", "stream"), ("c", "command"), ("zig", "stream")];
    for (language, kind) in projects {
        let Some(component) = (Project { language, kind, source: None }).build() else { continue };
        let anatomy = sandbox().inspect(component).unwrap().anatomy.unwrap();
        let name = format!("{language} {kind}: {anatomy:?}");
        assert_eq!(anatomy.stacks, [Some(32 << 10)], "{name}");
        assert!(anatomy.memories[0].initial <= 128 << 10 && anatomy.unused.is_empty(), "{name}");
    }
}

/// Ordinary programs: for WASI 0.2 in Rust, Python and JavaScript, for preview 1 in the others.
#[test]
fn commands() {
    for (language, _) in PHASES_OF {
        let Some(program) = load(Project { language, kind: "command", source: None }) else { continue };
        for strategy in ["threading", "async", "forking"] {
            echoes(&start(&program, ServerType::Tcp, strategy, ServerOptions::default()));
        }
    }
}

/// HTTP, in the languages that have a template for it.
#[test]
fn http() {
    for language in ["rust", "go", "python", "js", "ts"] {
        let Some(handler) = load(Project { language, kind: "http", source: None }) else { continue };
        for strategy in STRATEGIES {
            answers_http(&start(&handler, ServerType::Tcp, strategy, ServerOptions::default()));
        }
    }
}

fn conforms(language: &'static str) {
    let project = |kind| Project { language, kind, source: None };
    if let Some(echo) = load(project("stream")) {
        for strategy in ["threading", "async", "forking"] {
            echoes(&start(&echo, ServerType::Tcp, strategy, ServerOptions::default()));
        }
    }
    if let Some(length) = load(project("datagram")) {
        let server = start(&length, ServerType::Udp, "threading", ServerOptions::default());
        assert_eq!(server.ask(b"12345"), b"5 bytes");
    }
    if let Some(phases) = load(phases_of(language)) {
        for strategy in ["threading", "async"] {
            fails_where_asked(&phases, strategy);
            tls::refusals_are_reported(&phases, strategy);
        }
    }
}

fn phases_of(language: &'static str) -> Project {
    let (_, source) = PHASES_OF.into_iter().find(|(name, _)| *name == language).unwrap();
    Project { language, kind: "stream", source: Some(source) }
}

/// Loaded here and not by a server that a test waits for: the large ones take their time to compile.
fn load(project: Project) -> Option<Handler> {
    Some(sandbox().load(project.build()?).unwrap())
}

fn start(
    handler: &Handler,
    server_type: ServerType,
    strategy: &'static str,
    options: ServerOptions,
) -> Running {
    Running::start_with(Case { server_type, strategy }, handler.clone(), options)
}

fn echoes(server: &Running) {
    for length in LENGTHS {
        let data = pattern(length);
        assert!(server.ask(&data) == data, "{length} bytes came back otherwise");
    }
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let client = server.connect();
                for round in 0..3 {
                    let data = pattern(1000 * number + round + 1);
                    client.send(&data);
                    assert!(client.recv_exact(data.len()) == data, "client {number}");
                }
                assert_eq!(client.exchange(b"bye"), b"bye");
            });
        }
    });
    let client = server.connect();
    client.send(b"all I have to say");
    client.half_close();
    assert_eq!(client.recv_all(), b"all I have to say");
}

fn answers_http(server: &Running) {
    let get = || server.ask(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answered(&get()), b"hello\n");
    for length in LENGTHS {
        let data = pattern(length);
        let head = format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        let answer = server.ask(&[head.as_bytes(), &data].concat());
        assert!(answered(&answer) == data, "{length} bytes came back otherwise");
    }
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(answered(&get()), b"hello\n"));
        }
    });
}

/// The body of an answer that ends with its connection.
fn answered(answer: &[u8]) -> &[u8] {
    assert!(answer.starts_with(b"HTTP/1.0 200 "), "{}", answer.escape_ascii());
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("it has a head");
    &answer[end + 4..]
}

fn fails_where_asked(handler: &Handler, strategy: &'static str) {
    for (phase, sent) in PHASES {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let server = start(handler, ServerType::Tcp, strategy, options);
        let client = server.connect();
        client.send(format!("{phase}\n").as_bytes());
        assert_eq!(client.recv_all(), sent.as_bytes(), "{phase}");
        let failures = recorder.failures_when_closed(1);
        match &failures[..] {
            [] => assert_eq!(phase, "nowhere"),
            [failure] => {
                assert_eq!(failure.phase.to_string(), phase);
                let Cause::Error(words) = &failure.cause else { panic!("{failure:?}") };
                assert!(words.contains("as asked"), "{words}");
            }
            _ => panic!("{failures:?}"),
        }
    }
}
