//! Requests to the control socket that no client would make, in pieces, from clients that go in any way.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use plugsock::control::{Answer, Command, ControlClient};

use super::for_each_seed;
use super::random::Random;
use crate::harness::{Host, PATIENCE, guest, plugin};

/// Neither `shutdown` nor `upgrade`, which no change of these comes to: the host is to live.
fn requests() -> Vec<Vec<u8>> {
    let (echo, v2) = (plugin("echo"), guest("v2"));
    let texts = [
        r#"{"command":"status"}"#,
        r#"{"command":"versions"}"#,
        r#"{"command":"versions","slot":"echo"}"#,
        r#"{"command":"rollback"}"#,
        r#"{"command":"promote","slot":"echo"}"#,
        r#"{"command":"abort","slot":null}"#,
        r#"{"command":"drain"}"#,
        r#"{"command":"resume"}"#,
        r#"{"command":"log-level","filter":"info,guest=off"}"#,
        r#"{"command":"swap","file":"/no/such/handler.wasm","slot":"\u00e9\n","force":true}"#,
        r#"{"command":"swap","file":"/dev","digest":"sha256:00","canary":"0.5%"}"#,
        "",
        "[[[[[[[[[[[[[[[[",
    ];
    let swaps = [
        format!(r#"{{"command":"swap","file":"{echo}"}}"#),
        format!(r#"{{"command":"swap","file":"{v2}","force":true}}"#),
        format!(r#"{{"command":"swap","file":"{v2}","canary":"50%"}}"#),
    ];
    texts.into_iter().map(String::from).chain(swaps).map(String::into_bytes).collect()
}

/// Some requests, some of them changed; perhaps the last one without its end.
fn said(random: &mut Random, requests: &[Vec<u8>]) -> Vec<u8> {
    let mut said = Vec::new();
    for _ in 0..=random.below(5) {
        let request = random.pick(requests);
        match random.below(2) {
            0 => said.extend_from_slice(request),
            _ => said.extend(random.mutated(request)),
        }
        said.push(b'\n');
    }
    if random.below(4) == 0 {
        said.truncate(random.below(said.len()));
    }
    said
}

/// What all of it is answered.
fn answers(random: &mut Random, stream: &UnixStream, said: &[u8]) -> Vec<Answer> {
    random.in_pieces(stream, said);
    stream.shutdown(Shutdown::Write).unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.map(|line| serde_json::from_str(&line).expect(&line)).collect()
}

#[test]
fn control_requests() {
    let host = Host::serve(&["tcp://127.0.0.1:0", &plugin("echo")]);
    let done = |command| ControlClient::connect(&host.control_socket()).unwrap().ask(&command).unwrap();
    let swap = |name: &str, file: String| {
        assert_eq!(host.ask(b"hello"), name.as_bytes());
        let command =
            Command::Swap { slot: None, file: file.into(), digest: None, canary: None, force: true };
        assert!(matches!(done(command), Answer::Swapped(_)));
    };
    // It has all that it will keep then: a version that serves, and the one before it.
    swap("hello", guest("v2"));
    swap("v2\n", plugin("echo"));
    assert_eq!(host.ask(b"hello"), b"hello");
    let before = host.resources();
    let (requests, obeyed, refused) = (requests(), Cell::new(0), Cell::new(0));
    for_each_seed(200, |random| {
        let said = said(random, &requests);
        let stream = UnixStream::connect(host.control_socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        if random.below(8) == 0 {
            // And does not listen.
            return random.in_pieces(&stream, &said);
        }
        let answers = answers(random, &stream, &said);
        let lines =
            said.split(|byte| *byte == b'\n').count() - usize::from(said.is_empty() || said.ends_with(b"\n"));
        assert_eq!(answers.len(), lines, "{:?}: {answers:?}", String::from_utf8_lossy(&said));
        let errors = answers.iter().filter(|answer| matches!(answer, Answer::Error(_))).count();
        refused.set(refused.get() + errors);
        obeyed.set(obeyed.get() + answers.len() - errors);
    });
    // Else it would try very little.
    assert!(obeyed.get() > 100 && refused.get() > 100, "{obeyed:?} and {refused:?}");
    // There need be no canary.
    let _ = host.ctl(&["abort"]);
    done(Command::Resume {});
    done(Command::LogLevel { filter: "info".to_owned() });
    let _ = host.ctl(&["swap", "--force", &plugin("echo")]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(host.ctl(&["status"]).code, Some(0));
    assert_eq!(host.log.lines_with("panicked"), [""; 0]);
    host.wait_for_resources(&before);
}
