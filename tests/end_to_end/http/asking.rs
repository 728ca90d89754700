//! Who asks: the headers that say so are this server's word, or those of a proxy that it trusts.

use super::{curl, serve, url};

const FROM_OUTSIDE: [&str; 8] = [
    "-H",
    "Forwarded: for=6.6.6.6",
    "-H",
    "X-Forwarded-For: 6.6.6.6",
    "-H",
    "X-Forwarded-Proto: https",
    "-H",
    "X-Forwarded-Host: elsewhere",
];

#[test]
fn what_comes_from_outside_is_replaced_or_taken_off_or_left() {
    for (option, expected, unexpected) in [
        (
            "set",
            vec!["x-forwarded-for: 127.0.0.1\n", "x-forwarded-proto: http\n"],
            vec!["6.6.6.6", "elsewhere"],
        ),
        ("strip", vec![], vec!["orwarded"]),
        ("pass", vec!["x-forwarded-for: 6.6.6.6\n", "x-forwarded-host: elsewhere\n"], vec!["127.0.0.1\n"]),
    ] {
        let host = serve("threading", &["--forwarded", option]);
        let head = curl(&[&FROM_OUTSIDE[..], &[&url(&host, "/head")]].concat());
        for text in expected {
            assert!(head.contains(text), "{option}: {head}");
        }
        for text in unexpected {
            assert!(!head.contains(text), "{option}: {head}");
        }
    }
}

/// The client is whom a trusted proxy names.
#[test]
fn it_is_the_client_of_the_proxy_protocol() {
    let host = serve("threading", &["--proxy-protocol", "127.0.0.1/32"]);
    let head = curl(&["--haproxy-protocol", &url(&host, "/head")]);
    assert!(head.contains("x-forwarded-for: 127.0.0.1\n"), "{head}");
    let client = host.connect();
    client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nGET /head HTTP/1.0\r\n\r\n");
    let head = String::from_utf8(client.recv_all()).unwrap();
    assert!(head.contains("x-forwarded-for: 192.0.2.7\n"), "{head}");
    assert!(head.contains("forwarded: for=\"192.0.2.7:4711\";"), "{head}");
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    let host = serve("threading", &["--access-log", "combined"]);
    curl(&["-A", "a \"browser\"\\", "-e", "http://from.here/", &url(&host, "/status/404?x=%22")]);
    let line = host.log.wait_for("access: 127.0.0.1 - - [");
    assert!(
        line.ends_with(r#""GET /status/404?x=%22 HTTP/1.1" 404 0 "http://from.here/" "a \"browser\"\\""#),
        "{line}"
    );
    let host = serve("forking", &["--access-log", "json"]);
    curl(&[&url(&host, "/version")]);
    let line = host.log.wait_for("access: {");
    let line: serde_json::Value = serde_json::from_str(line.split_once("access: ").unwrap().1).unwrap();
    assert_eq!((&line["status"], &line["bytes"], &line["is_whole"]), (&200.into(), &1.into(), &true.into()));
    assert_eq!((&line["target"], &line["client"]), (&"/version".into(), &"127.0.0.1".into()));
}
