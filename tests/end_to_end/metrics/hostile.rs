//! Whatever a client of the metrics' address does, it holds up nobody else.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Answer, Measured, TCP};
use crate::harness::{Client, PATIENCE, wait_until};

/// As many clients may be connected at once.
const CLIENTS_MAX: usize = 32;

/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(20);

#[test]
fn nothing_but_looking() {
    let measured = Measured::serve(&[TCP]);
    let long = "x".repeat(10_000);
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody", 405),
        ("DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        ("GET /metrics/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        ("GET /metrics?name=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        ("GET /metrics HTTP/1.0\r\n\r\n", 200),
        (&format!("GET /{long} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 404),
        (&format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long.repeat(10)), 431),
        ("nonsense\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n", 400),
    ] {
        let answer = Answer::ask(&measured.metrics, request);
        assert_eq!(answer.status, status, "{request:.60}: {}", answer.head);
    }
    assert_eq!(measured.host.ask(b"hello"), b"hello");
}

/// One that says at once that there is no more to come is answered, as all others are.
#[test]
fn a_client_that_half_closes() {
    let measured = Measured::serve(&[TCP]);
    for _ in 0..100 {
        let answer = Client::ask(&measured.metrics, b"GET /metrics HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.0 200 "), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Those who do nothing give way to those who do.
#[test]
fn many_connections() {
    let measured = Measured::serve(&[TCP]);
    let before = measured.host.descriptors();
    let begun = Instant::now();
    let silent: Vec<Client> = (0..10 * CLIENTS_MAX).map(|_| Client::connect(&measured.metrics)).collect();
    let slow: Vec<Client> = (0..CLIENTS_MAX).map(|_| Client::connect(&measured.metrics)).collect();
    slow.iter().for_each(|client| client.send(b"GET /metrics HTTP/1.1\r\nHost"));
    assert_eq!(measured.get("/metrics").status, 200);
    wait_until(|| measured.host.descriptors() <= before + CLIENTS_MAX + 2);
    // The first have been closed, and the last are still there.
    assert!(silent[0].is_closed());
    // On a machine that has stood still for so long, its head has had its time.
    if begun.elapsed() < HEAD_TIME / 2 {
        slow[CLIENTS_MAX - 1].send(b": x\r\nConnection: close\r\n\r\n");
        assert_eq!(Answer::read(&slow[CLIENTS_MAX - 1]).status, 200);
    }
    assert_eq!(measured.host.ask(b"hello"), b"hello");
}

/// It has twenty seconds, whatever it sends in them.
#[test]
fn a_slow_head_is_not_waited_for() {
    let measured = Measured::serve(&[TCP]);
    let slow = Client::connect(&measured.metrics);
    slow.send(b"GET /metrics HTTP/1.1\r\n");
    // The end comes within the test's patience.
    let begun = Instant::now();
    slow.recv_all();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(measured.get("/metrics").status, 200);
}

/// One who asks again and again and never reads keeps nobody waiting, nor the end of the host.
#[test]
fn answers_that_nobody_reads() {
    let mut measured = Measured::serve(&[TCP]);
    let client = Client::connect(&measured.metrics);
    client.socket.set_nonblocking(true).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    while (&client.socket).write(request.as_bytes()).is_ok() {}
    assert_eq!(measured.get("/metrics").status, 200);
    assert!(measured.host.terminate().success());
}
