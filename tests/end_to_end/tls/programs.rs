//! Ordinary programs over TLS: what they are told of it, and what they read of a client that is cut off.

use super::client::{Close, End, Settings, VERSIONS};
use super::{Protected, Way};
use crate::harness::certificates::{Ca, Validity};
use crate::harness::{for_each_strategy, guest, written};

#[test]
fn a_program_is_told_how_its_connection_is_protected() {
    for_each_strategy(|strategy| {
        let (ca, directory) = (Ca::new("the clients' CA"), tempfile::TempDir::new().unwrap());
        let file = directory.path().join("clients.pem");
        std::fs::write(&file, &ca.pem).unwrap();
        let args = ["--concurrency", strategy, "--tls-alpn", "talk", "--tls-client-auth", "request"];
        let more = ["--env", "SSL_PROTOCOL=none", "--tls-client-ca", file.to_str().unwrap()];
        let program = guest("command_environment");
        let protected = Protected::serve_handler("tls://127.0.0.1:0", &program, &[&args[..], &more].concat());
        let alice = ca.client("alice", Validity::days(90));
        let settings =
            Settings::with(&protected.ca, VERSIONS[1], "localhost", Some(&alice)).with_alpn(&["talk"]);
        // A child could make sessions up, and with them clients.
        let second = if strategy == "forking" { "Initial" } else { "Resumed" };
        for resumed in ["Initial", second] {
            let mut client = Way::Listener.connect(&protected.host, &settings);
            let (said, end) = client.exchange(b"", Close::Says);
            let said = String::from_utf8(said).unwrap();
            assert_eq!(end, End::Said);
            for line in [
                "PROTO=TCP\n",
                "SSL_PROTOCOL=TLSv1.3\n",
                "SSL_CIPHER=TLS_AES_",
                &format!("SSL_SESSION_RESUMED={resumed}\n"),
                "SSL_CLIENT_VERIFY=SUCCESS\n",
                "SSL_CLIENT_S_DN=CN=alice\n",
                "SSL_TLS_SNI_SERVERNAME=localhost\n",
                "SSL_TLS_ALPN=talk\n",
            ] {
                assert!(said.contains(line), "{line}: {said}");
            }
            assert_eq!(said.matches("SSL_PROTOCOL=").count(), 1, "{said}");
        }
        let settings = Settings::new(&protected.ca, VERSIONS[0], "localhost");
        let (said, _) = Way::Listener.connect(&protected.host, &settings).exchange(b"", Close::Says);
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.contains("SSL_PROTOCOL=TLSv1.2\n") && said.contains("SSL_CLIENT_VERIFY=NONE\n"),
            "{said}"
        );
        assert!(!said.contains("SSL_CLIENT_S_DN") && !said.contains("SSL_TLS_ALPN"), "{said}");
    });
}

/// Not its end of input: what it had to read is not whole.
#[test]
fn input_that_is_cut_short_is_an_error_of_the_program() {
    for program in [guest("command_cat"), written("preview1_cat")] {
        for_each_strategy(|strategy| {
            let args = ["--concurrency", strategy, "--log-level", "debug"];
            let protected = Protected::serve_handler("tls://127.0.0.1:0", &program, &args);
            let host = &protected.host;
            let mut client = Way::Listener.connect(host, &protected.settings(1));
            assert_eq!(client.exchange(b"hello", Close::Says), (b"hello".to_vec(), End::Said));
            host.log.wait_for_count(" served", 1);
            for (count, is_reset) in [(1, false), (2, true)] {
                let mut client = Way::Listener.connect(host, &protected.settings(1));
                client.send(b"hello");
                assert_eq!(client.recv_exact(5), b"hello");
                if is_reset {
                    client.socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                    drop(client);
                } else {
                    assert_eq!(client.exchange(b"", Close::HalfCloses), (Vec::new(), End::Cut));
                }
                host.log.wait_for_count("client went or fell silent: ", count);
            }
            assert_eq!(host.log.lines_with(" served").len(), 1, "{}", host.log.text());
        });
    }
}
