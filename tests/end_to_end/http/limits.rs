//! What a client may send, how much of it and how slowly.

use std::time::{Duration, Instant};

use super::{Answer, get, serve};

#[test]
fn a_head_that_comes_too_slowly_is_given_up() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--http-head-time", "300ms"]);
        let client = host.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: ");
        assert_eq!(client.recv_all(), b"", "{strategy}");
        host.log.wait_for("idle time limit of 300ms reached");
    }
}

#[test]
fn a_body_that_does_not_go_on_is_given_up() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--idle-timeout", "300ms"]);
        let client = host.connect();
        client.send(b"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
        assert_eq!(Answer::read(&client).status, 408, "{strategy}");
        host.log.wait_for("idle time limit of 300ms reached");
    }
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--http-body-size", "1000"]);
        let client = host.connect();
        client.send(b"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
        let answer = Answer::read(&client);
        assert_eq!(answer.status, 413);
        assert_eq!(answer.text(), "the body of a request may have 1000 bytes, and this one has 1001\n");
        let client = host.connect();
        client.send(b"POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n");
        client.send(&[b'x'; 1000]);
        client.send(b"\r\n1\r\nx\r\n0\r\n\r\n");
        assert_eq!(Answer::read(&client).status, 413, "{strategy}");
    }
}

/// A client that reads a byte now and then is slower than it must be, and a guest that waits for it is not kept for long.
#[test]
fn a_client_that_takes_its_answer_too_slowly_is_given_up() {
    for strategy in ["threading", "forking", "async"] {
        for (option, value, said) in [
            ("--min-rate", "1MiB/s:300ms", "it was slower than 1048576/s:300ms"),
            ("--idle-timeout", "300ms", "idle time limit of 300ms reached"),
        ] {
            let host = serve(strategy, &[option, value]);
            let client = host.connect();
            client.send(b"GET /size/1000000000 HTTP/1.1\r\nHost: x\r\n\r\n");
            host.log.wait_for(said);
        }
    }
}

/// Also one that sends so: by a byte now and then it lets no deadline pass.
#[test]
fn a_client_that_sends_too_slowly_is_given_up() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--min-rate", "1MiB/s:300ms"]);
        let client = host.connect();
        client.send(b"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        let begun = Instant::now();
        while !client.has_ended() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{strategy}: it goes on");
            client.try_send(b"x");
            std::thread::sleep(Duration::from_millis(20));
        }
        host.log.wait_for("it was slower than 1048576/s:300ms");
    }
}

/// A connection that waits for its next request is nobody's to wait for.
#[test]
fn the_rate_counts_only_while_the_client_is_awaited() {
    let host = serve("threading", &["--min-rate", "1MiB/s:300ms"]);
    let client = host.connect();
    assert_eq!(get(&client, "/").status, 200);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(get(&client, "/sleep/700").text(), "slept\n");
    assert_eq!(get(&client, "/").status, 200);
}
