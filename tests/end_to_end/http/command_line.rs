//! HTTP handlers by the other subcommands: looked at, called, probed.

use std::io::Write;
use std::process::Stdio;

use super::{curl, serve_tls, url};
use crate::harness::{Host, for_each_strategy, guest, plugsock, run};

#[test]
fn check_says_what_it_is() {
    let ended = run(plugsock().args(["check", &guest("http")]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("kind     HTTP handler\n"), "{}", ended.stdout);
    let outgoing = ended.stdout.lines().find(|line| line.contains("wasi:http/outgoing-handler@")).unwrap();
    assert!(outgoing.ends_with("denied: no --allow-net"), "{outgoing}");
}

/// The client's input is the request, as it is sent.
#[test]
fn call_asks_by_what_it_is_given() {
    for (path, code, expected) in [("/version", 0, "HTTP/1.1 200 OK\r\n"), ("/trap", 1, "HTTP/1.1 500 ")] {
        let mut command = plugsock();
        command
            .args(["call", &guest("http")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let answer = String::from_utf8(ended.stdout).unwrap();
        assert!(answer.starts_with(expected), "{answer}");
        assert_eq!(ended.status.code(), Some(code), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn a_probe_judges_by_the_status() {
    let asking = |path: &str| format!("GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n");
    for_each_strategy(|strategy| {
        let probe = asking("/status/204");
        let args = ["--concurrency", strategy, "--probe", &probe, "--probe-expect-status", "204"];
        let host = Host::serve(&[&["tcp://127.0.0.1:0", &guest("http")][..], &args].concat());
        assert_eq!(curl(&[&url(&host, "/version")]), "1\n");
        let swapped = host.ctl(&["swap", &guest("http_v2")]);
        assert_eq!(swapped.code, Some(0), "{}", swapped.stderr);
    });
    for (path, status, said) in [
        ("/version", "404", "was answered with status 200, not 404 as expected"),
        ("/trap", "200", "was answered with status 500, not 200 as expected"),
    ] {
        let probe = asking(path);
        let refused = run(plugsock().args([
            "serve",
            "tcp://127.0.0.1:0",
            &guest("http"),
            "--probe",
            &probe,
            "--probe-expect-status",
            status,
        ]));
        assert!(refused.code != Some(0) && refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[test]
fn tls_offers_both_protocols() {
    for_each_strategy(|strategy| {
        let host = serve_tls(strategy);
        let asked = format!("https://localhost:{}", url(&host, "").rsplit_once(':').unwrap().1);
        for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let [head, echo] = ["/head", "/echo"].map(|path| format!("{asked}{path}"));
            let answer = curl(&["-k", protocol, "-w", "%{http_version}", &head]);
            assert!(answer.contains("scheme Some(\"Scheme::Https\")\n"), "{strategy}: {answer}");
            assert!(answer.contains("x-forwarded-proto: https\n"), "{strategy}: {answer}");
            assert!(answer.ends_with(&format!("\n{version}\n")), "{strategy}: {answer}");
            assert_eq!(curl(&["-k", protocol, "-d", "some words", &echo]), "some words\n", "{strategy}");
        }
    });
}
