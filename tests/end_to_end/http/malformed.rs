//! What is no request of HTTP, or could pass for two, is refused as RFC 9112 says, and what follows it is not believed.

use super::serve;
use crate::harness::for_each_strategy;

/// What is sent, and the status that it gets.
const REFUSED: &[(&str, &[u8], u16)] = &[
    (
        "two lengths",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        400,
    ),
    (
        "a length and chunks",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunks and a length",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("a length with a sign", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 400),
    ("a list of lengths", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello", 400),
    (
        "an unknown coding last",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunks in HTTP/1.0",
        b"POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("a carriage return alone", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n", 400),
    ("a folded header", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
    ("a blank before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
    ("NUL in a name", b"GET / HTTP/1.1\r\nHost: x\r\nX\0: a\r\n\r\n", 400),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    ("a host that is none", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("a user in the host", b"GET / HTTP/1.1\r\nHost: me@x\r\n\r\n", 400),
    ("no such version", b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 400),
    ("no version", b"GET /\r\n\r\n", 400),
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("a tunnel", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("an upgrade", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
];

/// A request that would be served if it were believed.
const SMUGGLED: &[u8] = b"GET /print HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn each_is_refused_and_nothing_after_it_is_served() {
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[]);
        for (what, sent, status) in REFUSED {
            let client = host.connect();
            client.send(sent);
            // What is not understood ends the connection, perhaps by now; the rest is served on.
            match status {
                400 => client.try_send(SMUGGLED),
                _ => client.half_close(),
            }
            let answer = String::from_utf8_lossy(&client.recv_all()).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{strategy}, {what}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{strategy}, {what}: {answer}");
        }
        assert!(!host.log.text().contains("on standard output"), "{}", host.log.text());
    });
}

#[test]
fn what_is_refused_is_told_why() {
    let host = serve("threading", &[]);
    for (sent, said) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "the request has no Host header\n"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "this server does not upgrade connections to websocket\n",
        ),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", "this server opens no tunnels\n"),
    ] {
        let client = host.connect();
        client.send(sent);
        client.half_close();
        let answer = String::from_utf8(client.recv_all()).unwrap();
        assert!(answer.ends_with(said), "{answer}");
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    for_each_strategy(|strategy| {
        let host = serve(strategy, &["--http-head-size", "8KiB"]);
        for (sent, statuses) in [
            (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000)), ["431", "431"]),
            (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000)), ["414", "431"]),
            (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200)), ["431", "431"]),
        ] {
            let client = host.connect();
            client.try_send(sent.as_bytes());
            let answer = String::from_utf8(client.recv_all()).unwrap();
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(statuses.contains(&status), "{strategy}: {answer}");
        }
    });
}

/// A request with chunks whose head came with another's is answered, and the connection ends: what was said of its length
/// is not known.
#[test]
fn what_follows_chunks_in_a_pipeline_is_not_believed() {
    let host = serve("threading", &[]);
    let client = host.connect();
    client.send(
        b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n\
          POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
          GET /print HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let answer = String::from_utf8(client.recv_all()).unwrap();
    assert!(!answer.contains("printed"), "{answer}");
}
