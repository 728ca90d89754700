//! The plugins that ship, asked by clients that nobody here wrote.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Client, Ended, Host, for_each_strategy, is_installed, pattern, plugin, run};

const TCP: &str = "tcp://127.0.0.1:0";
const UDP: &str = "udp://127.0.0.1:0";

fn serve(name: &str, args: &[&str]) -> Host {
    Host::serve(&[args, &[&plugin(name)]].concat())
}

/// The answers on a stream and as a datagram.
fn answers(name: &str, request: &[u8]) -> [String; 2] {
    let host = serve(name, &[TCP, UDP]);
    [0, 1].map(|index| String::from_utf8(Client::ask(&host.addresses[index], request)).unwrap())
}

fn port(host: &Host) -> String {
    host.address().to_string().rsplit(':').next().unwrap().to_owned()
}

/// Runs a client with `input` as its standard input.
fn client(input: &str, command: &str) -> Ended {
    let ended = run(Command::new("sh").args(["-c", &format!("printf '{input}' | {command}")]));
    assert_eq!(ended.code, Some(0), "{command}: {ended:?}");
    ended
}

#[test]
fn netcat_gets_its_line_back() {
    if !is_installed("nc") {
        return;
    }
    for_each_strategy(|strategy| {
        let host = serve("echo", &[TCP, "--concurrency", strategy]);
        assert_eq!(client("hello\\n", &format!("nc -N 127.0.0.1 {}", port(&host))).stdout, "hello\n");
    });
}

#[test]
fn pythons_sockets_get_their_line_back() {
    if !is_installed("python3") {
        return;
    }
    let host = serve("echo", &[TCP, UDP]);
    let ports = [0, 1].map(|index| host.addresses[index].to_string().rsplit(':').next().unwrap().to_owned());
    let script = format!(
        "import socket\n\
         with socket.create_connection(('127.0.0.1', {})) as tcp:\n\
        \x20   tcp.sendall(b'stream')\n\
        \x20   tcp.shutdown(socket.SHUT_WR)\n\
        \x20   print(tcp.makefile().read())\n\
         with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:\n\
        \x20   udp.sendto(b'datagram', ('127.0.0.1', {}))\n\
        \x20   print(udp.recv(100).decode())\n",
        ports[0], ports[1]
    );
    let ended = run(Command::new("python3").args(["-c", &script]));
    assert_eq!(ended.stdout, "stream\ndatagram\n", "{ended:?}");
}

#[test]
fn dig_gets_its_records() {
    if !is_installed("dig") {
        return;
    }
    let zones = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dns");
    for (address, transport) in [(UDP, "+notcp"), (TCP, "+tcp")] {
        for_each_strategy(|strategy| {
            let grant = format!("{zones}::/zone");
            let host = serve("dns", &[address, "--dir", &grant, "--concurrency", strategy]);
            let dig = |name, kind| {
                let command = format!("dig @127.0.0.1 -p {} {transport} +short {name} {kind}", port(&host));
                client("", &command).stdout
            };
            assert_eq!(dig("www.example.org", "A"), "192.0.2.80\n");
            assert_eq!(dig("web.example.org", "AAAA"), "www.example.org.\n2001:db8::80\n");
            assert_ne!(dig("text.example.org", "TXT"), "");
            assert_eq!(dig("nothing.example.org", "A"), "");
        });
    }
}

#[test]
fn malformed_queries_leave_the_name_server_serving() {
    let grant = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dns::/zone");
    let mut host = serve("dns", &[UDP, "--dir", grant]);
    let socket = host.connect();
    for length in 0..200 {
        socket.send(&pattern(length));
    }
    // A query for `org`, type SOA: answered, with the same id.
    let query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x06\x00\x01";
    let fresh = host.connect();
    assert_eq!(fresh.exchange(query)[..2], *b"\x12\x34");
    assert!(host.terminate().success());
    assert_eq!(host.log.lines_with("trapped"), [""; 0]);
}

#[test]
fn logger_reaches_syslog() {
    if !is_installed("logger") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log").display().to_string();
    for_each_strategy(|strategy| {
        let host = serve("syslog", &[&format!("unixgram://{path}"), "--concurrency", strategy]);
        for format in ["rfc3164", "rfc5424"] {
            client("", &format!("logger --socket {path} --tag demo --{format} hello in {format}"));
            let line = host.log.wait_for(&format!("hello in {format}"));
            assert!(line.contains("user.notice") && line.contains("demo"), "{line}");
        }
    });
}

#[test]
fn upper_answers_lines_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let host = serve("upper", &[&format!("unix://{}", directory.path().join("upper").display())]);
    assert_eq!(host.ask("one\nzwölf\n".as_bytes()), "ONE\nZWÖLF\n".as_bytes());
}

#[test]
fn thread_echo_names_the_worker() {
    for_each_strategy(|strategy| {
        let host = serve("thread-echo", &[TCP, "--concurrency", strategy]);
        let answer = String::from_utf8(host.ask(b"hello")).unwrap();
        let (worker, data) = answer.split_once(": ").unwrap();
        assert_eq!(data, "hello");
        assert!(!worker.is_empty() && (strategy == "sync" || worker.starts_with(strategy)), "{answer}");
    });
}

#[test]
fn daytime_puts_the_time_before_the_line() {
    for answer in answers("daytime", b"that line\n") {
        let (time, line) = answer.split_once("] ").unwrap();
        assert_eq!((time.len(), line), ("[Mon Nov 23 05:18:00 2026".len(), "that line\n"), "{answer}");
    }
}

#[test]
fn time_counts_from_1900() {
    let host = serve("time", &[TCP, UDP]);
    for address in &host.addresses {
        let answer = Client::ask(address, b"");
        let seconds = u64::from(u32::from_be_bytes(answer.try_into().unwrap())) - 2_208_988_800;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(seconds) < 60, "{seconds}");
    }
}

#[test]
fn qotd_quotes() {
    for answer in answers("qotd", b"") {
        assert!(answer.len() > 10 && answer.len() <= 512, "{answer}");
    }
}

#[test]
fn discard_says_nothing() {
    let host = serve("discard", &[TCP]);
    assert_eq!(host.ask(&pattern(1 << 20)), b"");
}

#[test]
fn chargen_goes_on_until_its_client_has_had_enough() {
    for_each_strategy(|strategy| {
        let host = serve("chargen", &[TCP, UDP, "--concurrency", strategy]);
        for _ in 0..2 {
            let characters = host.connect().recv_exact(10_000);
            assert!(characters.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')));
        }
        let packet = Client::ask(&host.addresses[1], b"");
        assert!(packet.len() <= 512);
    });
}

#[test]
fn finger_tells_about_users() {
    let users = tempfile::tempdir().unwrap();
    fs::write(users.path().join("ada"), "Ada Lovelace\nTo weave algebraic patterns.\n").unwrap();
    let host = serve("finger", &[TCP, "--dir", &format!("{}::/users", users.path().display())]);
    let answer = String::from_utf8(host.ask(b"/W ada\r\n")).unwrap();
    assert!(answer.contains("Ada Lovelace") && answer.contains("To weave algebraic patterns."), "{answer}");
    let answer = String::from_utf8(host.ask(b"../etc/passwd\r\n")).unwrap();
    assert!(!answer.contains("root:"), "{answer}");
}
