//! Requests of a guest's own go where it is granted, and nowhere else.

use std::process::Command;

use super::{curl, serve, url};
use crate::harness::{Host, for_each_strategy, run};
use crate::network_tls::servers::{Certificates, Server};

fn fetch(host: &Host, to: &str) -> String {
    curl(&["-H", &format!("x-url: {to}"), &url(host, "/fetch")])
}

#[test]
fn it_asks_whom_it_is_granted() {
    let other = serve("threading", &[]);
    for_each_strategy(|strategy| {
        let port = url(&other, "").rsplit_once(':').unwrap().1.to_owned();
        let host = serve(strategy, &["--allow-net", &format!("127.0.0.1:{port}")]);
        assert_eq!(fetch(&host, &url(&other, "/version")), "200\n1\n", "{strategy}");
        assert_eq!(fetch(&host, &url(&other, "/status/404")), "404\n", "{strategy}");
        let large = format!("x-url: {}", url(&other, "/length/300000"));
        let size = curl(&["-H", &large, "-o", "/dev/null", "-w", "%{size_download}", &url(&host, "/fetch")]);
        assert_eq!(size, "300004\n", "{strategy}");
        let echoed = curl(&[
            "-H",
            &format!("x-url: {}", url(&other, "/echo")),
            "-H",
            "x-method: POST",
            "-d",
            "some words",
            &url(&host, "/fetch"),
        ]);
        assert_eq!(echoed, "200\nsome words\n", "{strategy}");
    });
}

#[test]
fn it_asks_nobody_else() {
    let other = serve("threading", &[]);
    let port = url(&other, "").rsplit_once(':').unwrap().1.to_owned();
    for (granted, asked, expected) in [
        (None, url(&other, "/"), "HttpRequestDenied"),
        (Some("127.0.0.1:1".to_owned()), url(&other, "/"), "DestinationIpProhibited"),
        (Some(format!("127.0.0.2:{port}")), url(&other, "/"), "DestinationIpProhibited"),
        (Some(format!("127.0.0.1:{port}")), format!("http://localhost:{port}/"), "HttpRequestDenied"),
        (Some("example.invalid:80".to_owned()), "http://example.invalid/".to_owned(), "DnsError"),
        (Some(format!("localhost:{port}")), format!("http://LOCALHOST:{port}/version"), "200"),
    ] {
        let options = granted.as_deref().map_or(vec![], |granted| vec!["--allow-net", granted]);
        let host = serve("threading", &options);
        let answer = fetch(&host, &asked);
        assert!(answer.contains(expected), "{granted:?} {asked}: {answer}");
    }
}

#[test]
fn it_asks_over_tls() {
    const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];
    let Some(certificates) = Certificates::new(&NAMES) else { return };
    let server = Server::python(&certificates, "page");
    for_each_strategy(|strategy| {
        for name in NAMES {
            let authority = format!("{name}:{}", server.port);
            let host = serve(strategy, &["--allow-net", &authority, "--tls-ca", certificates.ca()]);
            let answer = fetch(&host, &format!("https://{authority}/path?query"));
            assert_eq!(answer, format!("200\nGET /path?query HTTP/1.1\n{authority}\n"), "{strategy}");
            let to = format!("x-url: https://{authority}/");
            let answer =
                curl(&["-H", &to, "-H", "x-method: POST", "-d", "some words", &url(&host, "/fetch")]);
            assert_eq!(answer, format!("200\nPOST / HTTP/1.1\n{authority}\nsome words\n"), "{strategy}");
            // Who cuts the connection must not pass for the server that ends it.
            let to = format!("x-url: https://{authority}/cut");
            let cut = run(Command::new("curl").args(["-sS", "-m", "60", "-H", &to, &url(&host, "/fetch")]));
            assert_ne!(cut.code, Some(0), "{strategy}: {cut:?}");
            assert!(cut.stdout.starts_with("200\n"), "{strategy}: {cut:?}");
        }
    });
}

#[test]
fn it_refuses_a_server_that_cannot_prove_who_it_is() {
    let Some(certificates) = Certificates::new(&["localhost"]) else { return };
    let Some(others) = Certificates::new(&["another.example"]) else { return };
    let plain = serve("threading", &[]);
    let plain: u16 = url(&plain, "").rsplit_once(':').unwrap().1.parse().unwrap();
    let [server, other] = [&certificates, &others].map(|of| Server::python(of, "page"));
    for_each_strategy(|strategy| {
        for (port, trusted, code, reason) in [
            (server.port, &[][..], "TlsCertificateError", "UnknownIssuer"),
            (other.port, &["--tls-ca", others.ca()], "TlsCertificateError", "not valid for name"),
            (plain, &[], "TlsProtocolError", "InvalidContentType"),
        ] {
            let authority = format!("localhost:{port}");
            let args = [&["--allow-net", &authority, "--log-level", "debug"], trusted].concat();
            let host = serve(strategy, &args);
            let answer = fetch(&host, &format!("https://{authority}/"));
            assert!(answer.contains(code), "{strategy}: {answer}");
            let line = host.log.wait_for("a handler's HTTP request failed: ");
            assert!(line.contains(reason), "{strategy}: {line}");
        }
    });
}
