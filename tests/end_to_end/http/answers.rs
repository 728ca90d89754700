//! What a client gets: by HTTP/1.1 and HTTP/2, whole, in order, as it was streamed.

use std::fs;

use super::{Answer, authority, curl, get, serve, url};
use crate::harness::{Host, for_each_strategy, guest, pattern};

const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[test]
fn every_body_comes_back_as_it_went() {
    let directory = tempfile::tempdir().unwrap();
    let [sent, come] = ["sent", "come"].map(|name| directory.path().join(name).display().to_string());
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[]);
        for protocol in PROTOCOLS {
            for length in [0, 1, 65_535, 65_537, 5 << 20] {
                let data = pattern(length);
                fs::write(&sent, &data).unwrap();
                for chunked in ["Expect:", "Transfer-Encoding: chunked"] {
                    // curl ends no empty body that it has begun in chunks.
                    if chunked != "Expect:" && (protocol != "--http1.1" || length == 0) {
                        continue;
                    }
                    let url = url(&host, "/echo");
                    curl(&[protocol, "-H", chunked, "-T", &sent, "-o", &come, &url]);
                    assert!(fs::read(&come).unwrap() == data, "{strategy} {protocol} {chunked} {length}");
                }
            }
            let size =
                curl(&[protocol, "-o", &come, "-w", "%{size_download}", &url(&host, "/size/100000000")]);
            assert_eq!(size, "100000000\n", "{strategy} {protocol}");
        }
    });
}

#[test]
fn one_connection_brings_many_requests_in_order() {
    for strategy in ["threading", "forking", "pool", "async"] {
        let host = serve(strategy, &[]);
        let client = host.connect();
        for _ in 0..3 {
            assert_eq!(get(&client, "/").text(), "hello\n");
        }
        let asked =
            ["/sleep/100", "/", "/version"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client.send(asked.concat().as_bytes());
        let answers = [(); 3].map(|()| Answer::read(&client).text().to_owned());
        assert_eq!(answers, ["slept\n", "hello\n", "1"], "{strategy}");
    }
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let host = serve("threading", &[]);
    let client = host.connect();
    client.send(b"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.recv_exact(25), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"hello");
    assert!(Answer::read(&client).text().starts_with("5 "));
}

#[test]
fn trailers_go_both_ways() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &[]);
        let client = host.connect();
        client.send(
            b"POST /trailers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: close\r\n\r\n\
              5\r\nhello\r\n0\r\nX-Of-Mine: yes\r\n\r\n",
        );
        let answer = String::from_utf8(client.recv_all()).unwrap();
        assert!(answer.contains("x-of-mine: yes\n"), "{answer}");
        assert!(answer.contains("x-length: 5\r\n"), "{answer}");
    }
}

/// What a guest says now its client reads now, also while another request of the connection is answered.
#[test]
fn an_answer_streams() {
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[]);
        let lines = curl(&["-N", &url(&host, "/ticks/3")]);
        assert_eq!(lines, "tick 0\ntick 1\ntick 2\n");
    });
}

/// A guest that streams waits for its client, and holds no more than a piece meanwhile.
#[test]
fn a_client_that_does_not_read_stops_its_guest() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--memory", "16MiB"]);
        let before = host.memory();
        let client = host.connect();
        client.send(b"GET /size/1000000000 HTTP/1.1\r\nHost: x\r\n\r\n");
        client.recv_exact(1 << 20);
        let grown = host.memory().saturating_sub(before);
        assert!(grown < 16 << 20, "{strategy}: {grown} bytes more");
        client.reset();
        host.log.wait_for("it went before it had");
    }
}

#[test]
fn head_and_empty_answers_have_no_body() {
    let host = serve("threading", &["--log-level", "debug"]);
    let client = host.connect();
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /status/204 HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(client.recv_all()).unwrap();
    let statuses: Vec<_> = text.lines().filter(|line| line.contains("HTTP/1.1")).collect();
    assert_eq!(statuses, ["HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 200 OK"], "{text}");
    assert!(
        text.contains("content-length: 6\r\n") && !text.contains("hello") && text.ends_with("\r\n\r\n1"),
        "{text}"
    );
    // All three count as served.
    host.log.wait_for_count("DEBUG plugsock::job: served", 3);
}

#[test]
fn what_was_built_for_an_older_wasi_is_served() {
    let host = Host::serve(&["tcp://127.0.0.1:0", &guest("http_0_2_0")]);
    assert_ne!(curl(&[&url(&host, "/")]), "");
}

#[test]
fn it_is_served_on_unix_sockets_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    for_each_strategy(|strategy| {
        let address = format!("unix://{}", path.display());
        let args = ["--concurrency", strategy, "--credentials-header", "X-Peer"];
        let host = Host::serve(&[&[address.as_str(), &guest("http")][..], &args].concat());
        let head = curl(&[
            "--unix-socket",
            &path.display().to_string(),
            "-H",
            "X-Peer: uid=0,gid=0",
            "http://somewhere/head",
        ]);
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        assert!(head.contains(&format!("uid={uid},gid={gid}\n")) && head.contains("x-peer: pid="), "{head}");
        assert!(head.contains("forwarded: for=unknown;host=\"somewhere\";proto=http\n"), "{head}");
        drop(host);
    });
}

#[test]
fn a_datagram_server_is_refused_it() {
    let ended =
        crate::harness::run(crate::harness::plugsock().args(["serve", "udp://127.0.0.1:0", &guest("http")]));
    assert!(ended.code != Some(0));
    assert!(ended.stderr.contains("serve it on tcp://, tls:// or unix://"), "{}", ended.stderr);
}

#[test]
fn a_request_names_whom_it_asks() {
    let host = serve("threading", &[]);
    let head = curl(&[&url(&host, "/head?a=b%20c")]);
    assert!(head.contains("path Some(\"/head?a=b%20c\")") && head.contains(&authority(&host)), "{head}");
}
