//! Requests of a guest's own go where it is granted, and nowhere else.

use super::{curl, serve, url};
use crate::harness::for_each_strategy;

fn fetch(host: &crate::harness::Host, to: &str) -> String {
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
