//! Whatever a client of the control socket does, the host serves on, and so does the socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::{TCP, done};
use crate::harness::{Host, PATIENCE, pattern};

const STATUS: &[u8] = b"{\"command\":\"status\"}\n";

/// The longest request that is read.
const REQUEST_MAX: usize = 64 * 1024;

fn connect(host: &Host) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(host.control_socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn answer(client: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

fn is_alive(host: &Host) {
    assert_eq!(host.ask(b"hello"), b"hello");
    done(host.ctl(&["status"]));
}

#[test]
fn what_is_no_request_is_answered_and_the_conversation_goes_on() {
    let host = Host::serve(&[TCP]);
    let mut client = connect(&host);
    let mut binary = pattern(1000);
    binary.retain(|byte| *byte != b'\n');
    for (request, word) in [
        (&b""[..], "not a request"),
        (b"status", "not a request"),
        (&binary, "not a request"),
        (b"{\"command\":\"destroy\"}", "unknown variant `destroy`"),
        (b"{\"command\":\"status\",\"verbose\":1}", "verbose"),
        (b"{\"command\":\"swap\",\"file\":\"v2.wasm\"}", "absolute path"),
        (b"{\"command\":\"log-level\",\"filter\":\"a=b=c\"}", "level"),
    ] {
        client.get_mut().write_all(request).unwrap();
        client.get_mut().write_all(b"\n").unwrap();
        let answer = answer(&mut client);
        assert!(answer.starts_with("{\"error\":{\"kind\":\"") && answer.contains(word), "{answer}");
    }
    // Several at once, and one in pieces.
    client.get_mut().write_all(&STATUS.repeat(3)).unwrap();
    (0..3).for_each(|_| assert!(answer(&mut client).starts_with("{\"status\":{\"pid\":")));
    for piece in STATUS.chunks(3) {
        client.get_mut().write_all(piece).unwrap();
    }
    assert!(answer(&mut client).starts_with("{\"status\":"));
    is_alive(&host);
}

#[test]
fn a_line_too_long_ends_the_conversation() {
    let host = Host::serve(&[TCP]);
    let mut client = connect(&host);
    // The longest that is read, in spaces.
    let mut longest = STATUS.to_vec();
    longest.splice(0..0, vec![b' '; REQUEST_MAX + 1 - STATUS.len()]);
    client.get_mut().write_all(&longest).unwrap();
    assert!(answer(&mut client).starts_with("{\"status\":"));
    for length in [REQUEST_MAX + 1, 64 * REQUEST_MAX] {
        let mut client = connect(&host);
        // The host may close in the middle of it.
        let _ = client.get_mut().write_all(&vec![b'['; length]);
        let answer = answer(&mut client);
        assert!(answer.contains("malformed") && answer.contains("longer than 65536 bytes"), "{answer}");
        // What the host has not read resets the connection, unless the writing has found that already.
        let mut more = Vec::new();
        let ended = client.read_to_end(&mut more).map_err(|error| error.kind());
        assert!(more.is_empty() && matches!(ended, Ok(0) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
    }
    is_alive(&host);
}

#[test]
fn half_a_line_is_no_request() {
    let host = Host::serve(&[TCP]);
    let mut client = connect(&host);
    client.get_mut().write_all(b"{\"command\":\"shutdown\"}").unwrap();
    client.get_mut().shutdown(Shutdown::Write).unwrap();
    let refusal = answer(&mut client);
    assert!(refusal.contains("does not end with a line feed"), "{refusal}");
    // Gone without a word, before, within and after a request.
    for said in [&b""[..], &STATUS[..5], STATUS] {
        connect(&host).get_mut().write_all(said).unwrap();
    }
    is_alive(&host);
}

/// A client that never reads what it asked for stops nobody but itself.
#[test]
fn a_client_that_does_not_listen_holds_nobody_up() {
    let host = Host::serve(&[TCP]);
    let mut client = connect(&host);
    client.get_mut().set_nonblocking(true).unwrap();
    let requests = STATUS.repeat(1000);
    while client.get_mut().write(&requests).is_ok() {}
    is_alive(&host);
}

#[test]
fn no_more_clients_are_served_than_there_is_room_for() {
    let host = Host::serve(&[TCP]);
    // All its threads have started then.
    is_alive(&host);
    let before = host.resources();
    let mut clients: Vec<_> = (0..16).map(|_| connect(&host)).collect();
    for client in &mut clients {
        client.get_mut().write_all(STATUS).unwrap();
        assert!(answer(client).starts_with("{\"status\":"));
    }
    let refusal = answer(&mut connect(&host));
    assert!(refusal.contains("\"busy\"") && refusal.contains("16 clients are connected"), "{refusal}");
    let ended = host.ctl(&["status"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("16 clients are connected"), "{ended:?}");
    drop(clients);
    host.wait_for_resources(&before);
    for _ in 0..200 {
        let mut client = connect(&host);
        client.get_mut().write_all(STATUS).unwrap();
        assert!(!answer(&mut client).is_empty());
    }
    host.wait_for_resources(&before);
    is_alive(&host);
}
