//! What the contract has besides reading and writing, in every language: hooks, sending to others, streams that are
//! waited for together with a timer, and the drain.

use std::net::UdpSocket;
use std::sync::Arc;

use plugsock::{Grants, Handler, Sandbox, SandboxOptions, ServerOptions, ServerType, Slot, SlotOptions};

use super::{load, start};
use crate::harness::{Case, Client, Host, PATIENCE, Project, Recorder, Running, sandbox_options, version};

const STRATEGIES: [&str; 3] = ["threading", "async", "forking"];

#[test]
fn rust() {
    has_all("rust", ("features.rs", "src/lib.rs"));
}

#[test]
fn c() {
    has_all("c", ("features.c", "handler.c"));
}

#[test]
fn zig() {
    has_all("zig", ("features.zig", "handler.zig"));
}

#[test]
fn assemblyscript() {
    has_all("assemblyscript", ("features.as.ts", "handler.ts"));
}

#[test]
fn go() {
    has_all("go", ("features.go", "handler.go"));
}

#[test]
fn python() {
    has_all("python", ("features.py", "handler.py"));
}

#[test]
fn js() {
    has_all("js", ("features.js", "handler.js"));
}

#[test]
fn ts() {
    has_all("ts", ("features.ts", "handler.ts"));
}

fn has_all(language: &'static str, source: (&'static str, &'static str)) {
    let project = Project { language, kind: "stream", source: Some(source) };
    // Compiled in this process: into the cache, from which the hosts take it at once.
    let Some(handler) = load(project) else { return };
    assert!(handler.has_hooks());
    let component = project.build().unwrap().display().to_string();
    let grants = Grants { send_to: true, ..Grants::default() };
    let granting = Sandbox::new(SandboxOptions { grants, ..sandbox_options() }).unwrap();
    let granted = granting.load(&component).unwrap();
    for strategy in STRATEGIES {
        hooks_are_called(&component, strategy);
        says_who_asks_whom(&handler, strategy);
        sends_to_others(&handler, &granted, strategy);
        waits_for_its_client_and_a_timer(&handler, strategy);
        is_told_of_the_drain(&handler, strategy);
    }
}

fn hooks_are_called(component: &str, strategy: &str) {
    let addresses = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"];
    let args = [component, "--timeout", "20ms", "--concurrency", strategy];
    let host = Host::serve(&[&addresses[..], &args].concat());
    host.log.wait_for(&format!("service_actions: {strategy}"));
    host.log.wait_for(&format!("handle_timeout: {strategy}"));

    let packets = Client::connect(&host.addresses[1]);
    packets.send(b"refuse me");
    assert_eq!(packets.exchange(b"hello"), b"hello");
    assert!(packets.has_nothing());

    let client = host.connect();
    let local = client.socket.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(client.exchange(b"fail"), b"");
    let line = host.log.wait_for("handle_error: ");
    assert!(line.contains(&format!("handle_error: handle {local} 1: ")), "{line}");
    assert!(line.contains("as the client wished"), "{line}");
    assert_eq!(host.ask(b"hello"), b"hello");
}

fn says_who_asks_whom(handler: &Handler, strategy: &'static str) {
    let server = start(handler, ServerType::Tcp, strategy, ServerOptions::default());
    let client = server.connect();
    let local = client.socket.local_addr().unwrap().as_socket().unwrap();
    client.send(b"who");
    let address = server.address.to_string();
    let address = address.trim_start_matches("tcp://");
    let wanted = format!("{address} {strategy} 1 {local}");
    assert_eq!(String::from_utf8(client.recv_all()).unwrap(), wanted);
}

fn sends_to_others(handler: &Handler, granted: &Handler, strategy: &'static str) {
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = format!("send-to {}", other.local_addr().unwrap());
    let server = start(handler, ServerType::Udp, strategy, ServerOptions::default());
    let refused = String::from_utf8(server.ask(asked.as_bytes())).unwrap();
    assert!(refused == "the server was not granted this" || refused.ends_with("NotPermitted"), "{refused}");
    let server = start(granted, ServerType::Udp, strategy, ServerOptions::default());
    assert_eq!(server.ask(asked.as_bytes()), b"sent");
    // Nothing came before.
    let mut received = [0; 6];
    let (length, _) = other.recv_from(&mut received).unwrap();
    assert_eq!(&received[..length], b"hello");
}

fn waits_for_its_client_and_a_timer(handler: &Handler, strategy: &'static str) {
    let server = start(handler, ServerType::Tcp, strategy, ServerOptions::default());
    let client = server.connect();
    client.send(b"tick");
    assert_eq!(client.recv_exact(10), b"tick\ntick\n");
    client.is_answered_between_ticks();
}

fn is_told_of_the_drain(handler: &Handler, strategy: &'static str) {
    let recorder = Recorder::default();
    let slot =
        Slot::new(handler.clone(), SlotOptions { drain_signal: true, ..SlotOptions::default() }).unwrap();
    let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
    let server = Running::start_with(Case { server_type: ServerType::Tcp, strategy }, slot.clone(), options);
    let [waiting, speaking] = [server.connect(), server.connect()];
    for client in [&waiting, &speaking] {
        client.send(b"wait");
        assert_eq!(client.recv_exact(8), b"serving\n");
    }
    speaking.send(b"I am here");
    assert_eq!(speaking.recv_all(), b"hello\n");
    slot.swap(version("two")).unwrap();
    // Without a word from its client.
    assert_eq!(waiting.recv_all(), b"bye\n");
    assert!(recorder.failures_when_closed(2).is_empty());
}
