//! How connections end: when nothing comes, when they have had enough, when the server goes.

use std::thread;

use rustix::process::Signal;

use super::{get, serve};
use crate::harness::{Client, for_each_strategy, wait_until};

#[test]
fn a_connection_that_waits_does_not_hold_up_the_end() {
    for_each_strategy(|strategy| {
        let mut host = serve(strategy, &[]);
        let idle = host.connect();
        assert_eq!(get(&idle, "/").text(), "hello\n");
        let busy = (strategy != "sync").then(|| {
            let busy = host.connect();
            busy.send(b"GET /ticks/20 HTTP/1.1\r\nHost: x\r\n\r\n");
            busy.recv_exact(100);
            busy
        });
        host.signal(Signal::TERM);
        // What was begun is answered whole.
        if let Some(busy) = busy {
            let rest = String::from_utf8(busy.recv_all()).unwrap();
            assert!(rest.ends_with("0\r\n\r\n") && rest.contains("tick 19"), "{strategy}: {rest}");
        }
        assert!(idle.recv_all().is_empty(), "{strategy}");
        assert!(host.wait().success(), "{strategy}");
    });
}

#[test]
fn a_request_on_its_way_when_the_server_closes_is_answered() {
    for strategy in ["threading", "forking", "async"] {
        let mut host = serve(strategy, &[]);
        let client = host.connect();
        assert_eq!(get(&client, "/").text(), "hello\n");
        host.signal(Signal::TERM);
        host.log.wait_for("shutting down");
        // It need not know at once.
        wait_until(|| {
            let answer = get(&client, "/version");
            assert_eq!(answer.text(), "1", "{strategy}");
            answer.header("connection") == Some("close")
        });
        assert!(client.recv_all().is_empty());
        assert!(host.wait().success());
    }
}

/// Connections that are kept do not hold a drain up, however busy.
#[test]
fn a_server_drains_although_its_clients_go_on() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &[]);
        let client = host.connect();
        assert_eq!(get(&client, "/").header("connection"), None);
        thread::scope(|scope| {
            let asking =
                scope.spawn(|| wait_until(|| get(&client, "/").header("connection") == Some("close")));
            let drained = host.ctl(&["drain"]);
            assert!(drained.stdout.ends_with("\ndrained\n"), "{strategy}: {drained:?}");
            asking.join().unwrap();
        });
        assert_eq!(host.ctl(&["resume"]).code, Some(0));
        assert_eq!(get(&host.connect(), "/").header("connection"), None, "{strategy}");
    }
}

#[test]
fn a_connection_ends_after_so_many_requests() {
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy, &["--http-requests", "3"]);
        let client = host.connect();
        for last in [None, None, Some("close")] {
            assert_eq!(get(&client, "/").header("connection"), last, "{strategy}");
        }
        assert!(client.recv_all().is_empty());
    }
}

#[test]
fn a_connection_ends_when_nothing_comes_or_it_is_old() {
    for strategy in ["threading", "forking", "async"] {
        for option in ["--http-keep-alive", "--http-connection-time"] {
            let host = serve(strategy, &[option, "300ms"]);
            let client = host.connect();
            assert_eq!(get(&client, "/").status, 200);
            assert!(client.recv_all().is_empty(), "{strategy} {option}");
        }
    }
}

/// With all places taken, connections that wait for a further request give way to those that have one.
#[test]
fn connections_that_are_kept_do_not_starve_others() {
    let full: [(&str, &[&str]); 4] = [
        ("pool", &["--workers", "2"]),
        ("forking", &["--max-children", "2"]),
        ("threading", &["--max-requests", "2"]),
        ("async", &["--max-requests", "2"]),
    ];
    for (strategy, places) in full {
        let host = serve(strategy, &[&["--http-keep-alive", "none"], places].concat());
        let kept = [(); 2].map(|()| {
            let client = host.connect();
            assert_eq!(get(&client, "/").text(), "hello\n");
            client
        });
        let other = host.connect();
        assert_eq!(get(&other, "/version").text(), "1", "{strategy}");
        // It has made room for both, or for one, and then the other has seen that there was enough.
        assert!(kept.iter().any(Client::is_closed), "{strategy}");
    }
}

/// `sync` has one place, and who comes by now is not even looked at.
#[test]
fn sync_keeps_no_connection() {
    let host = serve("sync", &[]);
    let client = host.connect();
    assert_eq!(get(&client, "/").header("connection"), Some("close"));
    assert!(client.recv_all().is_empty());
}
