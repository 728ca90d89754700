//! A handler is a client of TLS towards hosts that it was granted, and believes whom it was told to.

pub mod servers;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::harness::{Host, PATIENCE, for_each_strategy, guest, plugin, plugsock, run};
use crate::network::passes_bytes_both_ways;
use servers::{Certificates, Server};

const TCP: &str = "tcp://127.0.0.1:0";

/// The proxy to a TLS server of this machine.
fn proxy(strategy: &str, host: &str, port: u16, args: &[&str]) -> Host {
    let (target, grant) = (format!("tls://{host}:{port}"), format!("{host}:{port}"));
    let handler = plugin("proxy");
    let own = [TCP, &handler, "--concurrency", strategy, "--allow-net", &grant];
    Host::serve_sockets(plugsock(), 1, &[&own[..], args, &["--", &target]].concat())
}

/// What the proxy says of a server that it is not content with.
fn complaint(host: &Host) -> String {
    assert_eq!(host.ask(b""), b"");
    host.log.wait_for("cannot connect to tls://")
}

#[test]
fn the_proxy_speaks_tls() {
    let Some(certificates) = Certificates::new(&["localhost", "127.0.0.1"]) else { return };
    let reversing = ["-tls1_2", "-tls1_3"].map(|version| Server::openssl(&certificates, version));
    let echo = Server::python(&certificates, "echo");
    for_each_strategy(|strategy| {
        for server in &reversing {
            let host = proxy(strategy, "localhost", server.port, &["--tls-ca", certificates.ca()]);
            let client = host.connect();
            client.send(b"hello\n");
            assert_eq!(client.recv_exact(6), b"olleh\n");
        }
        let host = proxy(strategy, "127.0.0.1", echo.port, &["--tls-ca", certificates.ca()]);
        passes_bytes_both_ways(&host);
    });
}

/// Each side's end is passed on, and the other goes on.
#[test]
fn the_proxy_knows_half_closed_tls() {
    let Some(certificates) = Certificates::new(&["localhost"]) else { return };
    let ca = certificates.ca();
    for_each_strategy(|strategy| {
        let server = Server::python(&certificates, "answer");
        let host = proxy(strategy, "localhost", server.port, &["--tls-ca", ca]);
        assert_eq!(host.ask(b"question"), b"answer to question");
        let mut server = Server::python(&certificates, "greet");
        let host = proxy(strategy, "localhost", server.port, &["--tls-ca", ca]);
        let client = host.connect();
        assert_eq!(client.recv_all(), b"greeting");
        client.send(b"late words");
        client.half_close();
        assert_eq!(server.line(), "heard late words\n");
        assert_eq!(host.log.lines_with("handler error"), [""; 0]);
    });
}

/// Who can cut a connection could otherwise shorten what the server says.
#[test]
fn a_connection_that_breaks_off_is_no_end() {
    let Some(certificates) = Certificates::new(&["localhost"]) else { return };
    let server = Server::python(&certificates, "break_off");
    for_each_strategy(|strategy| {
        let host = proxy(strategy, "localhost", server.port, &["--tls-ca", certificates.ca()]);
        let client = host.connect();
        assert_eq!(client.recv_all(), b"half of");
        host.log.wait_for("the server broke off");
    });
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_refused() {
    let Some(certificates) = Certificates::new(&["another.example"]) else { return };
    let server = Server::python(&certificates, "echo");
    for_each_strategy(|strategy| {
        let host = proxy(strategy, "localhost", server.port, &[]);
        assert!(complaint(&host).contains("name its CA by --tls-ca"));
        for name in ["localhost", "127.0.0.1"] {
            let host = proxy(strategy, name, server.port, &["--tls-ca", certificates.ca()]);
            let complaint = complaint(&host);
            assert!(
                complaint.contains("certificate is refused: certificate not valid for name"),
                "{complaint}"
            );
        }
    });
}

#[test]
fn a_server_that_speaks_no_tls_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, connection) in listener.incoming().map_while(Result::ok).enumerate() {
            if number % 2 == 0 {
                let _ = (&connection).write_all(b"220 example.org is ready\r\n");
                let _ = std::io::copy(&mut &connection, &mut std::io::sink());
            }
        }
    });
    for_each_strategy(|strategy| {
        let host = proxy(strategy, "127.0.0.1", port, &[]);
        assert!(complaint(&host).contains("does not speak TLS"));
        assert_eq!(host.ask(b""), b"");
        // It may also have been reset.
        host.log.wait_for_count("cannot connect to tls://", 2);
    });
}

/// Nothing of a handshake outlives its request: no connection, descriptor, thread or process.
#[test]
fn a_handshake_that_never_ends_ends_with_its_request() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for_each_strategy(|strategy| {
        let host = proxy(strategy, "127.0.0.1", port, &["--request-time", "300ms"]);
        let ask = |count| {
            let clients: Vec<_> = (0..count).map(|_| host.connect()).collect();
            for _ in &clients {
                let (mut server, _) = silent.accept().unwrap();
                hear_out(&mut server);
            }
            clients.iter().for_each(|client| assert_eq!(client.recv_all(), b""));
        };
        ask(1);
        host.log.wait_for("time limit of 300ms");
        let before = host.resources();
        ask(4);
        host.wait_for_resources(&before);
    });
}

/// What comes until the other side has gone.
fn hear_out(connection: &mut TcpStream) {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = Vec::new();
    connection.read_to_end(&mut hello).unwrap();
    assert!(hello.starts_with(b"\x16\x03"), "no handshake: {hello:?}");
}

/// A guest may take any streams for TLS that it has; the request's own are as good as others, and as bound to it.
#[test]
fn tls_over_the_requests_own_connection_ends_with_it() {
    let handler = guest("tls_over_client");
    for_each_strategy(|strategy| {
        let args = [TCP, &handler, "--concurrency", strategy, "--allow-net", "127.0.0.1:1"];
        let host = Host::serve(&[&args[..], &["--request-time", "300ms"]].concat());
        let ask = || {
            let client = host.connect();
            assert!(client.recv_all().starts_with(b"\x16\x03"));
        };
        ask();
        host.log.wait_for("time limit of 300ms");
        let before = host.resources();
        (0..3).for_each(|_| ask());
        host.wait_for_resources(&before);
    });
}

#[test]
fn tls_is_refused_without_a_network() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&[TCP, &guest("tls_over_client"), "--concurrency", strategy]);
        assert_eq!(host.ask(b""), b"");
        host.log.wait_for("handler error: the server was not granted this: --allow-net");
    });
}

/// Where the client is the server.
#[test]
fn tls_works_over_other_streams_than_sockets() {
    let Some(certificates) = Certificates::new(&["localhost"]) else { return };
    for_each_strategy(|strategy| {
        let (handler, ca) = (guest("tls_over_client"), certificates.ca());
        let args = ["--concurrency", strategy, "--allow-net", "127.0.0.1:1", "--tls-ca", ca];
        let host = Host::serve(&[&[TCP, &handler], &args[..]].concat());
        let port = host.address().to_string().rsplit_once(':').unwrap().1.to_owned();
        let script = "import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
tls = context.wrap_socket(connection, server_side=True)
tls.sendall(b'hello')
print(tls.recv(5))
tls.unwrap()";
        let files = [&certificates.server.certificate, &certificates.server.key];
        let ended = run(Command::new("python3").args(["-c", script, &port]).args(files));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "b'hello'\n"), "{ended:?}");
    });
}

/// A system's whole list is more than a message to a fork server can carry.
#[test]
fn a_systems_list_of_certificates_can_be_given() {
    const LIST: &str = "/etc/ssl/certs/ca-certificates.crt";
    let Some(certificates) = Certificates::new(&["localhost"]) else { return };
    if !Path::new(LIST).exists() {
        return eprintln!("skipped: there is no {LIST}");
    }
    let server = Server::python(&certificates, "echo");
    for_each_strategy(|strategy| {
        let args = ["--tls-ca", LIST, "--tls-ca", certificates.ca()];
        let host = proxy(strategy, "localhost", server.port, &args);
        assert_eq!(host.ask(b"hello"), b"hello");
    });
}

#[test]
fn a_file_without_certificates_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let refused = |args: &[&str], reason: &str| {
        let ended = run(plugsock().args(["serve", TCP]).args(args));
        assert!(ended.code == Some(2) && ended.stderr.contains(reason), "{reason}: {ended:?}");
    };
    let path = file.to_str().unwrap();
    let args = ["--allow-net", "127.0.0.1:1", "--tls-ca", path];
    refused(&args, "cannot be read");
    refused(&args, path);
    std::fs::write(&file, "words").unwrap();
    refused(&args, "BEGIN CERTIFICATE");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    refused(&args, "certificate number 1");
    let good = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&file, good.cert.pem()).unwrap();
    refused(&args[2..], "--allow-net");
}
