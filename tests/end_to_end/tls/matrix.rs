//! Every strategy, whoever protects the connection, in both versions of the protocol.

use std::process::{Command, Stdio};

use super::client::{Close, End, VERSIONS};
use super::{Protected, WAYS, Way};
use crate::harness::{for_each_strategy, is_installed, pattern};

/// Runs a scenario for every strategy, way and version of the protocol.
fn for_each_case(args: &[&str], scenario: impl Fn(&Protected, Way, usize)) {
    for_each_strategy(|strategy| {
        for way in WAYS {
            let args = [&["--concurrency", strategy, "--log-level", "debug"], args].concat();
            let protected = Protected::serve(way, &args);
            (0..VERSIONS.len()).for_each(|version| {
                eprintln!("{strategy} {way:?} {:?}", VERSIONS[version].version);
                scenario(&protected, way, version);
            });
        }
    });
}

/// Around a record's length, and much more than all buffers hold.
const LENGTHS: [usize; 5] = [0, 1, 16 << 10, (16 << 10) + 1, 3 << 20];

fn contents_come_back(protected: &Protected, way: Way, version: usize) {
    for close in [Close::Says, Close::SaysAndHalfCloses] {
        for length in LENGTHS {
            let mut client = way.connect(&protected.host, &protected.settings(version));
            let data = pattern(length);
            let (received, end) = client.exchange(&data, close);
            assert_eq!((received.len(), end), (length, End::Said), "{close:?}");
            assert!(received == data, "{length} bytes are others, {close:?}");
        }
    }
}

#[test]
fn contents_come_back_whole_and_end_where_the_client_ended() {
    for_each_case(&[], |protected, way, version| {
        let before = protected.host.log.lines_with("saw the end").len();
        contents_come_back(protected, way, version);
        protected.host.log.wait_for_count("saw the end", before + 2 * LENGTHS.len());
        assert_eq!(protected.host.log.lines_with("saw Error::Reset"), Vec::<String>::new());
    });
}

#[test]
fn contents_come_back_over_streams() {
    for_each_case(&["--env", "STREAMS=yes"], |protected, way, version| {
        let before = protected.host.log.lines_with("saw the end").len();
        contents_come_back(protected, way, version);
        protected.host.log.wait_for_count("saw the end", before + 2 * LENGTHS.len());
    });
}

/// What was cut short must not pass for what the client meant to say.
fn ends_without_notice_are_errors(args: &[&str], said: &str) {
    for_each_case(args, |protected, way, version| {
        let log = &protected.host.log;
        let before = log.lines_with(said).len();
        let mut client = way.connect(&protected.host, &protected.settings(version));
        client.send(b"transfer 100");
        assert_eq!(client.recv_exact(12), b"transfer 100");
        assert_eq!(client.exchange(b"", Close::HalfCloses).0, b"");
        log.wait_for_count(said, before + 1);
        // A reset may be anybody's.
        let mut client = way.connect(&protected.host, &protected.settings(version));
        client.send(b"transfer 100");
        assert_eq!(client.recv_exact(12), b"transfer 100");
        client.socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        let lines = log.wait_for_count(said, before + 2);
        let is_said = |line: &String| line.contains("ClosedWithoutNotice") || line.contains("without notice");
        assert!(lines.iter().all(is_said), "{lines:?}");
        assert_eq!(log.lines_with("saw the end"), Vec::<String>::new());
    });
}

#[test]
fn an_end_without_notice_is_an_error() {
    ends_without_notice_are_errors(&[], "saw Error::Reset");
}

#[test]
fn an_end_without_notice_is_an_error_of_streams() {
    ends_without_notice_are_errors(&["--env", "STREAMS=yes"], "saw ");
}

#[test]
fn a_session_is_resumed() {
    for_each_case(&["--env", "TELL=yes"], |protected, way, version| {
        let settings = protected.settings(version);
        let resumed = || protected.host.status().servers[0].tls.as_ref().unwrap().resumed;
        let before = resumed();
        for is_resumed in [false, true, true] {
            let mut client = way.connect(&protected.host, &settings);
            let told = client.recv_told();
            assert!(told.contains(&format!("resumed={is_resumed}\n")), "{told}");
            assert_eq!(client.is_resumed(), is_resumed);
            assert_eq!(client.exchange(b"a", Close::Says), (b"a".to_vec(), End::Said));
        }
        assert_eq!(resumed(), before + 2);
        protected.host.log.wait_for_count(" resumed", before as usize + 2);
        let tls = protected.host.status().servers.swap_remove(0).tls.unwrap();
        assert_eq!(tls.done.values().sum::<u64>(), 3 * (version as u64 + 1), "{tls:?}");
        assert_eq!(tls.failed.len(), 0, "{tls:?}");
    });
}

#[test]
fn a_handler_is_told_how_its_connection_is_protected() {
    for_each_case(
        &["--env", "TELL=yes", "--env", "ALPN=b,a", "--tls-alpn", "b", "--tls-alpn", "a"],
        |protected, way, version| {
            let settings = protected.settings(version).with_alpn(&["a", "b"]);
            let told = way.connect(&protected.host, &settings).recv_told();
            let (protocol, cipher) = [("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_"), ("TLSv1.3", "TLS_AES_")][version];
            for line in [
                format!("protocol={protocol}\n"),
                format!("cipher={cipher}"),
                "server-name=localhost\n".to_owned(),
                "alpn=b\n".to_owned(),
                "resumed=false\n".to_owned(),
                "certificates=0\n".to_owned(),
            ] {
                assert!(told.contains(&line), "{line} {told}");
            }
        },
    );
}

/// More than the socket holds: the end has to wait for room, too.
#[test]
fn a_client_that_takes_its_time_is_told_the_end() {
    for_each_strategy(|strategy| {
        for count in ["8000000", "8000001", "8004096"] {
            let send = format!("SEND={count}");
            let protected = Protected::serve(Way::Listener, &["--concurrency", strategy, "--env", &send]);
            let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
            client.socket.set_recv_buffer_size(64 << 10).unwrap();
            client.shake().unwrap();
            // The host has sent what it can.
            let status = || protected.host.status().servers[0].tls.clone().unwrap();
            crate::harness::wait_until(|| status().done.len() == 1);
            let (received, end) = client.exchange(b"", Close::Waits);
            assert_eq!((received.len().to_string().as_str(), end), (count, End::Said));
        }
    });
}

/// What an identity that there is not leaves: the connection as it was.
#[test]
fn an_identity_that_there_is_not_changes_nothing() {
    for_each_strategy(|strategy| {
        for way in [Way::Setup, Way::Command] {
            let args = ["--concurrency", strategy, "--env", "IDENTITY=other"];
            let protected = Protected::serve(way, &args);
            let mut client = way.connect(&protected.host, &protected.settings(1));
            assert_eq!(client.exchange(b"hello", Close::Says), (b"hello".to_vec(), End::Said));
            protected.host.log.wait_for("no identity: the server has no identity 'other'");
        }
    });
}

#[test]
fn without_certificates_a_handler_protects_nothing() {
    for_each_strategy(|strategy| {
        let args = ["--env", "WHEN=setup", "--concurrency", strategy];
        let host = crate::harness::Host::tcp("tls", &args);
        assert_eq!(host.ask(b"x"), b"");
        host.log.wait_for("no identity: the server was started without --tls");
    });
}

const PYTHON: &str = "
import socket, ssl, sys
port, ca, is_starttls = int(sys.argv[1]), sys.argv[2], sys.argv[3] == 'Command'
context = ssl.create_default_context(cafile=ca)
session = None
for turn in range(2):
    plain = socket.create_connection(('127.0.0.1', port))
    if is_starttls:
        plain.sendall(b'STARTTLS\\n')
        assert plain.recv(3) == b'go\\n'
    client = context.wrap_socket(plain, server_hostname='localhost', session=session)
    data = bytes(range(256)) * 100
    client.sendall(data)
    received = b''
    while len(received) < len(data):
        received += client.recv(65536)
    assert received == data
    assert client.session_reused == (turn == 1), turn
    session = client.session
    # Says the end and waits for the server's.
    version = client.version()
    client.unwrap().close()
print('good', version)
";

#[test]
fn a_client_in_python() {
    if !is_installed("python3") {
        return;
    }
    for_each_strategy(|strategy| {
        for way in WAYS {
            let protected = Protected::serve(way, &["--concurrency", strategy]);
            let ca = protected.path().join("ca.pem");
            std::fs::write(&ca, &protected.ca.pem).unwrap();
            let mut python = Command::new("python3");
            python.args(["-c", PYTHON, &port(&protected)]).arg(ca).arg(format!("{way:?}"));
            let ended = python.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&ended.stdout), "good TLSv1.3\n", "{ended:?}");
        }
    });
}

pub fn port(protected: &Protected) -> String {
    protected.host.address().to_string().rsplit_once(':').unwrap().1.to_owned()
}

#[test]
fn a_client_of_openssl() {
    if !is_installed("openssl") {
        return;
    }
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy, "--env", "TELL=yes", "--env", "SEND=0"];
        let protected = Protected::serve(Way::Listener, &args);
        for (option, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let mut openssl = Command::new("openssl");
            let connect = format!("127.0.0.1:{}", port(&protected));
            openssl.args(["s_client", "-quiet", "-servername", "localhost", "-connect", &connect]);
            let ended = openssl.arg(option).stdin(Stdio::null()).output().unwrap();
            let told = String::from_utf8_lossy(&ended.stdout);
            assert!(told.contains(&format!("protocol={protocol}\n")), "{ended:?}");
        }
    });
}

#[test]
fn a_client_of_https() {
    if !is_installed("curl") {
        return;
    }
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy, "--env", "HTTP=yes", "--tls-alpn", "http/1.1"];
        let protected = Protected::serve(Way::Listener, &args);
        let ca = protected.path().join("ca.pem");
        std::fs::write(&ca, &protected.ca.pem).unwrap();
        let resolve = format!("localhost:{}:127.0.0.1", port(&protected));
        let url = format!("https://localhost:{}/", port(&protected));
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--noproxy",
            "*",
            "--resolve",
            &resolve,
            "--cacert",
        ]);
        let ended = curl.arg(&ca).arg(&url).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stdout), "hello", "{ended:?}");
    });
}
