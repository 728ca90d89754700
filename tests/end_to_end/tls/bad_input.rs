//! Clients that do not keep to TLS, or not to what is asked of them: each is told so, counted and logged, and the next one
//! is served.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::client::{Close, End, Settings, TlsClient, VERSIONS, connect, rest};
use super::matrix::port;
use super::{Protected, Way};
use crate::harness::certificates::{Ca, Certified, Validity, self_signed};
use crate::harness::{for_each_strategy, is_installed, wait_until};

/// The alert for what is not expected, before there are keys.
const UNEXPECTED: &[u8] = &[21, 3, 3, 0, 2, 2, 10];

/// A scenario on every strategy, which leaves nothing behind.
fn on_each_strategy(way: Way, args: &[&str], scenario: impl Fn(&Protected)) {
    for_each_strategy(|strategy| {
        let protected = Protected::serve(way, &[&["--concurrency", strategy], args].concat());
        protected.serves_on(way);
        let before = protected.host.resources();
        scenario(&protected);
        protected.serves_on(way);
        protected.host.wait_for_resources(&before);
    });
}

fn failed(protected: &Protected, reason: &str) -> u64 {
    let tls = protected.host.status().servers.swap_remove(0).tls.unwrap();
    tls.failed.get(reason).copied().unwrap_or_default()
}

/// The ClientHello that a client begins with.
pub fn hello(protected: &Protected, version: usize) -> (TlsClient, Vec<u8>) {
    let settings = protected.settings(version);
    let mut client = TlsClient::connect(protected.host.address(), &settings);
    let mut hello = Vec::new();
    client.connection.write_tls(&mut hello).unwrap();
    (client, hello)
}

#[test]
fn what_is_no_tls_is_told_so() {
    on_each_strategy(Way::Listener, &[], |protected| {
        for (sent, said) in [
            (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], "it began with \"GET / HT\""),
            (b"\x80\x2e\x01\x00\x02", "it began with \"\\x80.\\x01\\x00\\x02\""),
            (b"\n", "it began with \"\\n\""),
        ] {
            let socket = connect(protected.host.address());
            (&socket).write_all(sent).unwrap();
            assert_eq!(rest(&socket), (UNEXPECTED.to_vec(), true));
            let line = protected.host.log.wait_for(said);
            assert!(line.contains("the client does not speak TLS") && line.contains(" INFO "), "{line}");
        }
        assert_eq!(failed(protected, "handshake-failed"), 3);
    });
}

#[test]
fn what_only_begins_like_tls_ends_with_an_alert() {
    on_each_strategy(Way::Listener, &[], |protected| {
        let too_large = [&[22, 3, 1, 0x48, 1][..], &[0; 0x4801]].concat();
        let nonsense = [&[22, 3, 1, 0, 32][..], &[0xff; 32]].concat();
        let another_record = [22, 3, 1, 0, 4, 1, 0, 1, 0, 23, 3, 3, 0, 1, 0];
        for (number, sent) in [&too_large[..], &nonsense, &another_record].into_iter().enumerate() {
            let socket = connect(protected.host.address());
            // It may be refused before all is sent.
            let _ = (&socket).write_all(sent);
            let (said, _) = rest(&socket);
            // rustls says nothing to a message that would be too long.
            assert!(matches!(said.first(), Some(21) | None), "{said:?}");
            protected.host.log.wait_for_count("TLS handshake failed: ", number + 1);
        }
        assert_eq!(failed(protected, "handshake-failed"), 3);
    });
}

#[test]
fn a_hello_may_come_byte_by_byte() {
    on_each_strategy(Way::Listener, &[], |protected| {
        for version in 0..VERSIONS.len() {
            let (mut client, hello) = hello(protected, version);
            client.socket.set_tcp_nodelay(true).unwrap();
            hello.iter().for_each(|byte| (&client.socket).write_all(&[*byte]).unwrap());
            client.send(b"hello");
            assert_eq!(client.recv_exact(5), b"hello");
        }
    });
}

const LIMIT: [&str; 2] = ["--tls-handshake-timeout", "300ms"];

#[test]
fn a_client_that_stops_in_a_flight_is_ended() {
    on_each_strategy(Way::Listener, &LIMIT, |protected| {
        let ended = |socket: &socket2::Socket, count: usize| {
            rest(socket);
            let lines = protected
                .host
                .log
                .wait_for_count("client dropped: TLS handshake limit of 300ms reached", count);
            assert!(lines.iter().all(|line| line.contains("phase=TLS handshake")), "{lines:?}");
        };
        let silent = connect(protected.host.address());
        ended(&silent, 1);
        let mut count = 1;
        for version in 0..VERSIONS.len() {
            let (client, hello) = hello(protected, version);
            (&client.socket).write_all(&hello[..hello.len() / 2]).unwrap();
            count += 1;
            ended(&client.socket, count);
            let (client, hello) = self::hello(protected, version);
            (&client.socket).write_all(&hello).unwrap();
            count += 1;
            ended(&client.socket, count);
            // Its last flight, but for the last byte.
            let (mut client, hello) = self::hello(protected, version);
            (&client.socket).write_all(&hello).unwrap();
            let mut flight = Vec::new();
            while flight.is_empty() {
                client.connection.read_tls(&mut &client.socket).unwrap();
                client.connection.process_new_packets().unwrap();
                while client.connection.wants_write() {
                    client.connection.write_tls(&mut flight).unwrap();
                }
            }
            (&client.socket).write_all(&flight[..flight.len() - 1]).unwrap();
            count += 1;
            ended(&client.socket, count);
        }
        let version = protected.host.status().slots.swap_remove(0).versions.swap_remove(0);
        assert_eq!(version.limits.get("tls-handshake"), Some(&(count as u64)), "{version:?}");
        assert_eq!(failed(protected, "timed-out"), count as u64);
    });
}

/// It never makes the host wait, and would go on for a minute.
#[test]
fn a_client_that_always_has_another_byte_is_ended_in_time() {
    on_each_strategy(Way::Listener, &LIMIT, |protected| {
        let socket = connect(protected.host.address());
        socket.set_tcp_nodelay(true).unwrap();
        let mut hello: Vec<u8> = vec![22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60, 3, 3];
        hello.resize(5 + 0x4000, 0);
        let record = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
        (0..3).for_each(|_| hello.extend_from_slice(&record));
        let begun = Instant::now();
        let sent = hello.iter().take_while(|byte| {
            std::thread::sleep(Duration::from_micros(500));
            (&socket).write_all(&[**byte]).is_ok()
        });
        let sent = sent.count();
        assert!(sent < hello.len() / 2, "{sent} bytes in {:?}", begun.elapsed());
        protected.host.log.wait_for("client dropped: TLS handshake limit of 300ms reached");
    });
}

#[test]
fn a_handler_is_told_of_a_client_that_stops() {
    on_each_strategy(Way::Setup, &LIMIT, |protected| {
        let silent = connect(protected.host.address());
        assert_eq!(rest(&silent).0, b"");
        protected.host.log.wait_for("not protected: TlsError::Connection(Error::TimedOut)");
        protected.host.log.wait_for("client dropped: TLS handshake limit of 300ms reached");
    });
}

/// Whoever stands between could put them there.
#[test]
fn bytes_in_the_clear_after_a_command_are_never_read() {
    on_each_strategy(Way::Command, &[], |protected| {
        let socket = connect(protected.host.address());
        (&socket).write_all(b"STARTTLS\nrm -rf /\n").unwrap();
        assert_eq!(rest(&socket).0, [b"go\n", UNEXPECTED].concat());
        let log = &protected.host.log;
        log.wait_for("not protected: TlsError::UnprotectedBytes");
        let line = log.wait_for("then: ");
        assert!(line.contains("then: Err(") && line.contains(", Err("), "{line}");
        log.wait_for("bytes had come in the clear that nobody has read");
        assert_eq!(failed(protected, "unprotected-bytes"), 1);
    });
}

/// A hello that is there already is no such thing.
#[test]
fn a_hello_may_come_with_the_command() {
    on_each_strategy(Way::Command, &[], |protected| {
        let (mut client, hello) = hello(protected, 1);
        (&client.socket).write_all(&[b"STARTTLS\n", &hello[..]].concat()).unwrap();
        let mut go = [0; 3];
        (&client.socket).read_exact(&mut go).unwrap();
        client.send(b"hello");
        assert_eq!(client.recv_exact(5), b"hello");
    });
}

#[test]
fn who_shares_no_version_is_told_so() {
    on_each_strategy(Way::Listener, &["--tls-min-version", "1.3"], |protected| {
        let mut client = TlsClient::connect(protected.host.address(), &protected.settings(0));
        let error = client.shake().unwrap_err();
        assert!(error.contains("ProtocolVersion"), "{error}");
        protected.host.log.wait_for("(alert protocol_version)");
    });
}

/// What `openssl s_client` says, to `input`.
fn openssl(protected: &Protected, args: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", port(protected))]).args(args);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let ended = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned()
}

#[test]
fn what_is_broken_is_not_spoken() {
    if !is_installed("openssl") {
        return;
    }
    on_each_strategy(Way::Listener, &[], |protected| {
        for (args, alert) in [
            (&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"][..], "handshake_failure"),
            (&["-tls1_2", "-cipher", "AES128-SHA"], "handshake_failure"),
            (&["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], "handshake_failure"),
        ] {
            let said = openssl(protected, args, b"");
            assert!(said.contains(&alert.replace('_', " ")) || said.contains("alert"), "{said}");
            protected.host.log.wait_for(&format!("(alert {alert})"));
        }
    });
}

#[test]
fn nothing_is_negotiated_anew() {
    if !is_installed("openssl") {
        return;
    }
    on_each_strategy(Way::Listener, &[], |protected| {
        let said = openssl(protected, &["-tls1_2"], b"R\n");
        assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    });
}

/// Each certificate that the server shows, by the name that the client asks for.
#[test]
fn certificates_are_chosen_by_name() {
    if !is_installed("openssl") {
        return;
    }
    for_each_strategy(|strategy| {
        let (ca, directory) = (Ca::new("the CA"), tempfile::TempDir::new().unwrap());
        let write = |name: &str, names: &[&str]| ca.server(names).write(directory.path(), name);
        let wild = write("wild", &["*.example.org"]);
        let exact = write("exact", &["www.example.org"]);
        let args = ["--tls", &wild, "--tls", &exact, "--concurrency", strategy];
        let protected = Protected::serve(Way::Listener, &args);
        for (args, subject) in [
            (&["-servername", "localhost"][..], "localhost"),
            (&["-servername", "mail.example.org"], "*.example.org"),
            (&["-servername", "MAIL.example.org"], "*.example.org"),
            (&["-servername", "www.example.org"], "www.example.org"),
            // One label, and neither none nor two.
            (&["-servername", "example.org"], "localhost"),
            (&["-servername", "a.b.example.org"], "localhost"),
            (&["-servername", "unknown"], "localhost"),
            (&["-noservername"], "localhost"),
        ] {
            let said = openssl(&protected, args, b"");
            let shown = said.lines().find(|line| line.starts_with("subject=")).expect(&said);
            assert!(
                shown.ends_with(&format!("CN = {subject}")) || shown.ends_with(&format!("CN={subject}")),
                "{shown} {args:?}"
            );
        }
    });
}

#[test]
fn who_speaks_no_protocol_of_the_servers_is_refused() {
    for (way, args) in [
        (Way::Listener, ["--tls-alpn", "smtp", "--tls-alpn", "imap"]),
        (Way::Setup, ["--env", "ALPN=smtp,imap", "--log-level", "debug"]),
    ] {
        on_each_strategy(way, &args, |protected| {
            for version in 0..VERSIONS.len() {
                let settings = protected.settings(version).with_alpn(&["http/1.1"]);
                let error = TlsClient::connect(protected.host.address(), &settings).shake().unwrap_err();
                assert!(error.contains("NoApplicationProtocol"), "{error}");
                protected.host.log.wait_for_count("peer doesn't support any known protocol", version + 1);
            }
        });
    }
}

#[test]
fn clients_show_certificates() {
    for_each_strategy(|strategy| {
        let (ca, other) = (Ca::new("the clients' CA"), Ca::new("another CA"));
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("clients.pem");
        std::fs::write(&file, &ca.pem).unwrap();
        let file = file.display().to_string();
        let good = ca.client("alice", Validity::days(90));
        let bad = [
            (ca.client("bob", Validity::over()), "expired"),
            (ca.client("bob", Validity::to_come()), "not valid yet"),
            (self_signed("bob"), "none of --tls-client-ca has issued it"),
            (other.client("bob", Validity::days(90)), "none of --tls-client-ca has issued it"),
        ];
        for auth in [&[][..], &["--tls-client-auth", "request"], &["--tls-client-auth", "require"]] {
            let args = ["--concurrency", strategy, "--env", "TELL=yes", "--tls-client-ca", &file];
            let protected = Protected::serve(Way::Listener, &[&args, auth].concat());
            let mut refused = 0;
            for version in VERSIONS {
                let ask = |certified: Option<&Certified>| {
                    let settings = Settings::with(&protected.ca, version, "localhost", certified);
                    let mut client = TlsClient::connect(protected.host.address(), &settings);
                    let (told, end) = client.exchange(b"", Close::Says);
                    (String::from_utf8(told).unwrap(), end)
                };
                let (told, end) = ask(Some(&good));
                assert_eq!(end, End::Said);
                let names = "certificates=1\nnames=CN=alice;alice.example.org\n";
                assert!(told.contains(names), "{told}");
                for (certified, _) in &bad {
                    let (told, end) = ask(Some(certified));
                    assert_eq!(told, "");
                    assert!(matches!(end, End::Failed(_)), "{end:?}");
                    refused += 1;
                }
                match (ask(None), auth) {
                    ((told, End::Said), [_, "request"]) => {
                        assert!(told.contains("certificates=0\n"), "{told}")
                    }
                    ((told, End::Failed(_)), [_, "require"] | []) => {
                        assert_eq!(told, "");
                        protected.host.log.wait_for("the client's certificate is refused: it has shown none");
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            let lines = protected.host.log.wait_for_count("the client's certificate is refused: ", refused);
            eprintln!("{}", lines.join("\n"));
            for (_, reason) in &bad {
                assert!(lines.iter().any(|line| line.contains(reason)), "{reason}: {lines:?}");
            }
            wait_until(|| failed(&protected, "certificate-refused") == refused as u64);
        }
    });
}

/// Hundreds of tickets, each of which has to be looked at.
#[test]
fn a_client_with_too_many_tickets_is_served_or_refused() {
    on_each_strategy(Way::Listener, &["--tls-handshake-timeout", "5s"], |protected| {
        let socket = connect(protected.host.address());
        (&socket).write_all(&hello_with_tickets(200)).unwrap();
        let mut answer = [0; 6];
        (&socket).read_exact(&mut answer).unwrap();
        // A ServerHello: it goes on without any of them.
        assert_eq!((answer[0], answer[5]), (22, 2));
        drop(socket);
        protected.host.log.wait_for("phase=TLS handshake");
    });
}

/// Of TLS 1.3, with as many tickets that are none.
fn hello_with_tickets(count: usize) -> Vec<u8> {
    let sized = |data: &[u8]| [&(data.len() as u16).to_be_bytes()[..], data].concat();
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], &sized(data)].concat();
    let identities: Vec<u8> = (0..count).flat_map(|_| [&sized(&[7; 64])[..], &[0; 4]].concat()).collect();
    let binders: Vec<u8> = (0..count).flat_map(|_| [&[32][..], &[0; 32]].concat()).collect();
    let extensions = [
        extension(43, &[2, 3, 4]),
        extension(10, &sized(&[0, 29])),
        extension(13, &sized(&[4, 3, 8, 4])),
        extension(51, &sized(&[&[0, 29][..], &sized(&[9; 32])].concat())),
        extension(45, &[1, 1]),
        extension(41, &[sized(&identities), sized(&binders)].concat()),
    ];
    let body =
        [&[3, 3][..], &[5; 32], &[0], &sized(&[0x13, 1]), &[1, 0], &sized(&extensions.concat())].concat();
    let hello = [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat();
    hello.chunks(16 << 10).flat_map(|part| [&[22, 3, 1][..], &sized(part)].concat()).collect()
}
