//! HTTP/2 frame by frame: several requests at once, and clients that abuse that.

use super::serve;
use crate::harness::{Client, Host};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn send(client: &Client, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    client.try_send(&[&head, payload].concat());
}

/// A client that lets each stream send it `window` bytes.
fn connect(host: &Host, window: u32) -> Client {
    let client = host.connect();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send(&client, SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
    client
}

/// Asks without a body. The indices are those of HPACK's static table.
fn get(client: &Client, stream: u32, path: &str) {
    ask(client, 0x82, END_STREAM, stream, path);
}

/// Asks with a body, of which nothing has come yet.
fn post(client: &Client, stream: u32, path: &str) {
    ask(client, 0x83, 0, stream, path);
}

fn ask(client: &Client, method: u8, end: u8, stream: u32, path: &str) {
    let literal = |index: u8, text: &str| [&[index, text.len() as u8], text.as_bytes()].concat();
    let block = [&[method, 0x86], &literal(0x44, path)[..], &literal(0x41, "x")].concat();
    send(client, HEADERS, end | END_HEADERS, stream, &block);
}

fn reset(client: &Client, stream: u32) {
    send(client, RST_STREAM, 0, stream, &8u32.to_be_bytes());
}

fn next(client: &Client) -> Frame {
    let head = client.recv_exact(9);
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
    Frame { kind: head[3], flags: head[4], stream, payload: client.recv_exact(length as usize) }
}

/// The next part of an answer.
fn next_data(client: &Client) -> Frame {
    loop {
        let frame = next(client);
        if frame.kind == DATA && !frame.payload.is_empty() {
            return frame;
        }
    }
}

#[test]
fn one_that_takes_long_does_not_hold_up_another() {
    for strategy in ["threading", "pool", "forking", "async"] {
        let host = serve(strategy, &[]);
        let client = connect(&host, 65_535);
        get(&client, 1, "/sleep/2000");
        get(&client, 3, "/version");
        let first = next_data(&client);
        assert_eq!((first.stream, &*first.payload), (3, &b"1"[..]), "{strategy}");
        assert_eq!(&*next_data(&client).payload, b"slept\n", "{strategy}");
    }
}

/// A connection's own place is all that it has then.
#[test]
fn with_no_room_left_they_are_served_one_after_the_other() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--max-requests", "2"]);
        let (other, client) = (connect(&host, 65_535), connect(&host, 65_535));
        for (client, request) in [(&other, "x"), (&client, "y")] {
            post(client, 1, "/echo");
            send(client, DATA, 0, 1, request.as_bytes());
            assert_eq!(&*next_data(client).payload, request.as_bytes(), "{strategy}");
        }
        get(&client, 3, "/version");
        send(&client, DATA, END_STREAM, 1, b"z");
        assert_eq!(&*next_data(&client).payload, b"z", "{strategy}");
        assert_eq!(&*next_data(&client).payload, b"1", "{strategy}");
    }
}

/// Each has the memory, the stack and the descriptors of one, and gives its room back.
#[test]
fn many_are_served_at_once_again_and_again() {
    let streams = |round: u32| (0..15).map(move |number| 1 + 2 * (15 * round + number));
    for strategy in ["threading", "forking", "async"] {
        // Without what the first give back, there is no room for all of the last.
        let host = serve(strategy, &["--max-requests", "40"]);
        let client = connect(&host, 65_535);
        for round in 0..4 {
            for stream in streams(round) {
                post(&client, stream, "/echo");
                send(&client, DATA, 0, stream, b"x");
            }
            let mut answered: Vec<u32> = streams(round).map(|_| next_data(&client).stream).collect();
            answered.sort_unstable();
            assert!(answered.into_iter().eq(streams(round)), "{strategy}");
            streams(round).for_each(|stream| send(&client, DATA, END_STREAM, stream, b""));
            for _ in streams(round) {
                while next(&client).flags & END_STREAM == 0 {}
            }
        }
    }
}

#[test]
fn a_client_that_opens_no_window_is_given_up() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--idle-timeout", "300ms"]);
        let client = connect(&host, 0);
        get(&client, 1, "/size/1000000");
        host.log.wait_for("idle time limit of 300ms reached");
        client.recv_all();
    }
}

/// Requests that are given up as soon as they are made (CVE-2023-44487) cost their connection, and nobody else.
#[test]
fn a_client_that_resets_all_it_asks_is_sent_away() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &[]);
        let client = connect(&host, 65_535);
        for stream in (1..20_000).step_by(2) {
            get(&client, stream, "/sleep/1");
            reset(&client, stream);
        }
        let is_sent_away = std::iter::from_fn(|| Some(next(&client))).any(|frame| frame.kind == GOAWAY);
        assert!(is_sent_away, "{strategy}");
        assert_eq!(super::get(&host.connect(), "/version").text(), "1");
    }
}

/// It has its end and its line in the log as others have, while the connection goes on.
#[test]
fn a_request_that_is_given_up_before_its_answer_is_told_of() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--access-log", "combined"]);
        let client = connect(&host, 65_535);
        post(&client, 1, "/read");
        host.log.wait_for("guest: reading");
        reset(&client, 1);
        host.log.wait_for("client went or fell silent: it broke its request off");
        host.log.wait_for("\"POST /read HTTP/2.0\" 499 0 ");
        get(&client, 3, "/version");
        assert_eq!(&*next_data(&client).payload, b"1", "{strategy}");
        assert_eq!(host.log.lines_with("panicked"), [""; 0], "{strategy}");
    }
}

/// No more than are allowed are open at once: others are refused, and can be asked again.
#[test]
fn more_than_are_allowed_are_refused() {
    let host = serve("threading", &["--http-streams", "2"]);
    let client = connect(&host, 65_535);
    for stream in [1, 3, 5] {
        get(&client, stream, "/sleep/500");
    }
    let mut ends = Vec::new();
    while ends.len() < 3 {
        let frame = next(&client);
        let is_end = frame.kind == RST_STREAM || (frame.kind == DATA && frame.flags & END_STREAM != 0);
        if is_end {
            ends.push((frame.kind, frame.stream));
        }
    }
    ends.sort_unstable();
    assert_eq!(ends, [(DATA, 1), (DATA, 3), (RST_STREAM, 5)]);
}
