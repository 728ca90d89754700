//! What is counted, after requests that are known.

use std::process::Command;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::{Answer, Measured, TCP};
use crate::harness::certificates::Ca;
use crate::harness::{
    Client, Deployed, children, for_each_strategy, guest, plugin, run, versioned, wait_until,
};
use crate::upgrade;

/// Each slot with its own cause.
#[test]
fn requests_and_failures_by_cause() {
    for_each_strategy(|strategy| {
        let handlers = ["error_in_handle", "trap_in_handle", "loop_forever"].map(guest);
        let echo = plugin("echo");
        let args: Vec<&str> =
            [&echo].into_iter().chain(&handlers).flat_map(|handler| [TCP, handler]).collect();
        let limits = ["--cpu-time", "50ms", "--concurrency", strategy];
        let measured = Measured::serve_at(TCP, 4, &[&args[..], &limits].concat());
        let addresses = &measured.host.addresses;
        for _ in 0..3 {
            assert_eq!(Client::ask(&addresses[0], b"hello"), b"hello");
        }
        addresses[1..].iter().for_each(|address| drop(Client::ask(address, b"")));
        let echo = [("slot", "echo")];
        for (slot, cause) in
            [("error_in_handle", "error"), ("trap_in_handle", "trap"), ("loop_forever", "limit")]
        {
            let failed = [("slot", slot), ("generation", "1"), ("cause", cause)];
            let scrape = measured.wait_for("plugsock_request_failures_total", &failed, 1.0);
            assert_eq!(
                scrape.value("plugsock_request_failures_total", &[("slot", slot)]),
                Some(1.0),
                "{cause}"
            );
            assert_eq!(scrape.value("plugsock_requests_total", &[("slot", slot)]), Some(1.0), "{cause}");
        }
        let limit = [("slot", "loop_forever"), ("limit", "cpu-time")];
        measured.wait_for("plugsock_request_limits_total", &limit, 1.0);
        measured.wait_for("plugsock_requests_total", &echo, 3.0);
        measured.wait_for("plugsock_sent_bytes_total", &echo, 15.0);
        let scrape = measured.wait_for("plugsock_open_requests", &[], 0.0);
        for (name, labels, expected) in [
            ("plugsock_request_failures_total", &echo[..], 0.0),
            ("plugsock_received_bytes_total", &echo, 15.0),
            ("plugsock_request_duration_seconds_count", &echo, 3.0),
            ("plugsock_request_duration_seconds_bucket", &[("slot", "echo"), ("le", "+Inf")], 3.0),
            ("plugsock_request_phase_duration_seconds_count", &[("slot", "echo"), ("phase", "setup")], 3.0),
            ("plugsock_request_phase_duration_seconds_count", &[("slot", "echo"), ("phase", "handle")], 3.0),
            ("plugsock_request_phase_duration_seconds_count", &[("slot", "echo"), ("phase", "finish")], 3.0),
            ("plugsock_instances_total", &[("slot", "echo"), ("origin", "new")], 3.0),
            ("plugsock_room_wait_seconds_count", &echo, 3.0),
            ("plugsock_start_wait_seconds_count", &echo, 3.0),
            ("plugsock_version_share_ratio", &[("slot", "echo"), ("generation", "1")], 1.0),
            ("plugsock_version_open_requests", &echo, 0.0),
            ("plugsock_accepting", &echo, 1.0),
            ("plugsock_server_info", &[("slot", "echo"), ("concurrency", strategy), ("type", "tcp")], 1.0),
        ] {
            assert_eq!(scrape.value(name, labels), Some(expected), "{name} {labels:?}\n{}", scrape.text);
        }
        // A guest that computes for 50 ms is in its phase for as long.
        let handled = [("slot", "loop_forever"), ("phase", "handle")];
        let time = scrape.value("plugsock_request_phase_duration_seconds_sum", &handled).unwrap();
        assert!((0.05..10.0).contains(&time), "{time}");
        // No client is ever a label.
        assert!(!scrape.text.contains("client=") && !scrape.text.contains("peer"), "{}", scrape.text);
    });
}

/// An open connection is counted while it is open, and each byte once.
#[test]
fn bytes_of_open_connections() {
    for_each_strategy(|strategy| {
        // There the host knows of a child's bytes when it has ended.
        let while_open = strategy != "forking";
        let measured = Measured::serve(&[TCP, "--concurrency", strategy]);
        let open = measured.host.greeted();
        let expected = if while_open { 1.0 } else { 0.0 };
        for _ in 0..3 {
            measured.wait_for("plugsock_received_bytes_total", &[], expected);
        }
        measured.wait_for("plugsock_open_requests", &[], 1.0);
        assert_eq!(open.exchange(&[b'x'; 999]).len(), 999);
        for name in ["plugsock_received_bytes_total", "plugsock_sent_bytes_total"] {
            measured.wait_for(name, &[], 1000.0);
        }
    });
}

#[test]
fn datagrams() {
    for_each_strategy(|strategy| {
        let args = ["udp://127.0.0.1:0", &guest("datagram_echo"), "--concurrency", strategy];
        let measured = Measured::serve(&[&args[..], &["--max-packet-size", "100"]].concat());
        assert_eq!(measured.host.ask(&[b'x'; 100]).len(), 100);
        measured.host.connect().send(&[b'x'; 101]);
        measured.wait_for("plugsock_refusals_total", &[("reason", "too_large")], 1.0);
        for name in ["plugsock_received_bytes_total", "plugsock_sent_bytes_total"] {
            measured.wait_for(name, &[], 100.0);
        }
    });
}

#[test]
fn refusals_by_reason() {
    let measured = Measured::serve(&[TCP, "--max-connections-per-ip", "1"]);
    let open = measured.host.greeted();
    assert!(measured.host.connect().is_closed());
    let scrape = measured.wait_for("plugsock_refusals_total", &[("reason", "open_per_ip")], 1.0);
    assert_eq!(scrape.value("plugsock_refusals_total", &[]), Some(1.0));
    assert_eq!(scrape.value("plugsock_open_requests", &[]), Some(1.0));
    drop(open);
    measured.wait_for("plugsock_open_requests", &[], 0.0);
    // Metrics' own clients count nowhere.
    measured.wait_for("plugsock_requests_total", &[], 1.0);
}

/// The one who waits for room waits as long as it takes, and is counted when there is some.
#[test]
fn waits_for_room() {
    let measured = Measured::serve(&[TCP, "--max-requests", "1"]);
    let open = measured.host.greeted();
    let waiting = measured.host.connect();
    waiting.send(b"b");
    let scrape = measured.wait_for("plugsock_listen_queue_connections", &[], 1.0);
    assert_eq!(scrape.value("plugsock_start_wait_seconds_count", &[]), Some(1.0));
    drop(open);
    assert_eq!(waiting.recv_exact(1), b"b");
    measured.wait_for("plugsock_start_wait_seconds_count", &[], 2.0);
    measured.wait_for("plugsock_listen_queue_connections", &[], 0.0);
}

#[test]
fn swaps_and_canaries() {
    let (one, two) = (Deployed::new(&versioned("one")), Deployed::new(&versioned("two")));
    let measured = Measured::serve(&[TCP, &one.path()]);
    let ctl = |args: &[&str]| measured.host.ctl(args).code;
    assert_eq!(ctl(&["swap", &two.path(), "--canary", "25%"]), Some(0));
    for _ in 0..8 {
        measured.host.ask(b"who?\n");
    }
    measured.wait_for("plugsock_requests_total", &[("generation", "2")], 2.0);
    let scrape = measured.wait_for("plugsock_requests_total", &[("generation", "1")], 6.0);
    let share = |generation| scrape.value("plugsock_version_share_ratio", &[("generation", generation)]);
    assert_eq!((share("1"), share("2")), (Some(0.75), Some(0.25)));
    assert_eq!(ctl(&["promote"]), Some(0));
    assert_eq!(ctl(&["rollback"]), Some(0));
    assert_eq!(ctl(&["swap", file!()]), Some(1));
    assert_eq!(ctl(&["promote"]), Some(1));
    let scrape = measured.scrape();
    let swaps = |kind| scrape.value("plugsock_swaps_total", &[("kind", kind)]);
    assert_eq!(["swap", "canary", "promotion", "rollback"].map(swaps), [0.0, 1.0, 1.0, 1.0].map(Some));
    let failures = |reason| scrape.value("plugsock_swap_failures_total", &[("reason", reason)]);
    assert_eq!(["handler", "no-canary", "probe"].map(failures), [1.0, 1.0, 0.0].map(Some));
    assert_eq!(scrape.labels("plugsock_version_info", "generation"), ["3", "2", "1"]);
}

/// Whatever happens, as many series as a slot remembers versions.
#[test]
fn labels_are_bounded() {
    let files = [Deployed::new(&versioned("one")), Deployed::new(&versioned("two"))];
    let measured = Measured::serve(&[TCP, &files[0].path()]);
    for round in 1..=100 {
        assert_eq!(measured.host.ctl(&["swap", &files[round % 2].path()]).code, Some(0));
        measured.host.ask(b"who?\n");
    }
    let scrape = measured.wait_for("plugsock_swaps_total", &[("kind", "swap")], 100.0);
    let generations = scrape.labels("plugsock_requests_total", "generation");
    assert_eq!((generations.len(), generations[0]), (16, "101"));
    assert!(scrape.count() < 3000, "{} series", scrape.count());
}

/// Also where what speaks HTTP for the host answers by itself.
#[test]
fn what_is_no_request_of_http_is_counted() {
    for_each_strategy(|strategy| {
        let args = [TCP, &guest("http_versioned"), "--concurrency", strategy];
        let measured = Measured::serve(&args);
        let client = measured.host.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n");
        assert!(client.recv_all().starts_with(b"HTTP/1.1 400 "), "{strategy}");
        measured.wait_for("plugsock_http_responses_total", &[("class", "4xx")], 1.0);
    });
}

#[test]
fn tls_and_http() {
    for strategy in ["threading", "forking", "async"] {
        let directory = TempDir::new().unwrap();
        let identity = Ca::new("the CA").server(&["localhost"]).write(directory.path(), "main");
        let args =
            ["tls://127.0.0.1:0", &guest("http_versioned"), "--tls", &identity, "--concurrency", strategy];
        let measured = Measured::serve(&args);
        let port = measured.host.address().to_string().rsplit_once(':').unwrap().1.to_owned();
        let curl =
            |args: &[&str]| run(Command::new("curl").args(["-sS", "-m", "60", "--http1.1"]).args(args)).code;
        let url = format!("https://localhost:{port}/");
        // It does not know who has signed.
        assert_eq!(curl(&[&url]), Some(60));
        assert_eq!(curl(&["-k", &url, &url]), Some(0));
        assert_eq!(curl(&["-k", "-H", "Host:", &url]), Some(0));
        measured.wait_for("plugsock_http_responses_total", &[("class", "2xx")], 2.0);
        measured.wait_for("plugsock_http_responses_total", &[("class", "4xx")], 1.0);
        measured.wait_for("plugsock_requests_total", &[], 2.0);
        measured.wait_for("plugsock_tls_handshakes_total", &[("protocol", "TLSv1.3")], 2.0);
        measured.wait_for("plugsock_tls_handshake_failures_total", &[], 1.0);
        measured.wait_for("plugsock_tls_handshake_duration_seconds_count", &[], 3.0);
        let scrape = measured.wait_for("plugsock_open_requests", &[], 0.0);
        let expiry = [("certificate", "main")];
        assert!(scrape.value("plugsock_tls_certificate_expiry_timestamp_seconds", &expiry).unwrap() > 1e9);
        assert!(scrape.value("plugsock_sent_bytes_total", &[]).unwrap() > 100.0, "{}", scrape.text);
    }
}

#[test]
fn fork_servers() {
    let measured = Measured::serve(&[TCP, "--concurrency", "forking"]);
    measured.wait_for("plugsock_fork_servers", &[], 1.0);
    kill_process(children(measured.host.pid())[0], Signal::KILL).unwrap();
    measured.wait_for("plugsock_fork_server_deaths_total", &[], 1.0);
    measured.wait_for("plugsock_fork_servers", &[], 1.0);
    assert_eq!(measured.host.ask(b"hello"), b"hello");
}

#[test]
fn compiling_and_the_cache() {
    let cache = TempDir::new().unwrap();
    let cache = cache.path().display().to_string();
    for (compiled, found) in [(1.0, 0.0), (0.0, 1.0)] {
        let measured = Measured::serve(&[TCP, &guest("v2"), "--cache-dir", &cache]);
        let scrape = measured.scrape();
        assert_eq!(scrape.value("plugsock_compile_duration_seconds_count", &[]), Some(compiled));
        assert_eq!(scrape.value("plugsock_cache_hits_total", &[]), Some(found));
    }
}

#[test]
fn lines_of_guests_that_were_dropped() {
    for strategy in ["threading", "forking"] {
        let args = [TCP, &guest("print_line"), "--log-rate", "0", "--concurrency", strategy];
        let measured = Measured::serve(&args);
        measured.host.ask(b"hello\n");
        wait_until(|| measured.scrape().value("plugsock_guest_log_dropped_lines_total", &[]) > Some(0.0));
    }
}

#[test]
fn the_process() {
    let measured = Measured::serve(&[TCP]);
    let scrape = measured.scrape();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(scrape.value("plugsock_build_info", &version), Some(1.0));
    for name in [
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    ] {
        assert!(scrape.value(name, &[]).unwrap() > 0.0, "{name}");
    }
    // What is not there is not named.
    assert!(!scrape.text.contains("_tls_") && !scrape.text.contains("fork_server"), "{}", scrape.text);
}

/// Metrics by the status that `ctl` shows.
#[test]
fn the_status_is_that_of_the_control_socket() {
    let measured = Measured::serve(&[TCP]);
    measured.host.ask(b"hello");
    measured.wait_for("plugsock_open_requests", &[], 0.0);
    let answer = measured.get("/status");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let mut shown: plugsock::control::Status = serde_json::from_str(&answer.body).unwrap();
    let status = measured.host.status();
    shown.uptime_seconds = status.uptime_seconds;
    assert_eq!(shown, status);
}

/// Whoever scrapes without a pause is always answered, by one process and then by the other.
#[test]
fn an_upgrade_keeps_answering() {
    for metrics in [TCP.to_owned(), unix(&TempDir::new().unwrap().keep())] {
        let measured = Measured::serve_at(&metrics, 1, &[TCP]);
        (0..5).for_each(|_| drop(measured.host.ask(b"hello")));
        let open = measured.host.greeted();
        measured.wait_for("plugsock_requests_total", &[], 5.0);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let successor = std::thread::scope(|scope| {
            let scraping = scope.spawn(|| {
                let mut answered = 0;
                while !is_over.load(std::sync::atomic::Ordering::SeqCst) || answered < 50 {
                    assert_eq!(measured.get("/metrics").status, 200);
                    answered += 1;
                }
            });
            let successor = upgrade::upgrade(&measured.host);
            is_over.store(true, std::sync::atomic::Ordering::SeqCst);
            scraping.join().unwrap();
            successor
        });
        // The old process has a request still, and answers here no more.
        measured.wait_for("plugsock_requests_total", &[], 0.0);
        (0..20).for_each(|_| assert_eq!(measured.scrape().value("plugsock_requests_total", &[]), Some(0.0)));
        drop(open);
        measured.host.wait_for_exit();
        assert_eq!(measured.host.ask(b"hello"), b"hello");
        measured.wait_for("plugsock_requests_total", &[], 1.0);
        let Measured { host, metrics } = measured;
        upgrade::end(host, successor);
        assert!(Client::try_connect(&metrics).is_err(), "somebody is still there");
        if let Some(path) = metrics.to_string().strip_prefix("unix://") {
            let directory = std::path::Path::new(path).parent().unwrap();
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0, "files are left");
            std::fs::remove_dir(directory).unwrap();
        }
    }
}

fn unix(directory: &std::path::Path) -> String {
    format!("unix://{}", directory.join("metrics").display())
}

/// Bound by root, where its user could not.
#[test]
fn another_user_serves_what_root_has_bound() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let directory = TempDir::new().unwrap();
    let args = [TCP, "--user", "12345:54321", "--no-control", "--no-cache"];
    let measured = Measured::serve_at(&unix(directory.path()), 1, &args);
    assert_eq!(measured.host.ask(b"hello"), b"hello");
    measured.wait_for("plugsock_requests_total", &[], 1.0);
}

#[test]
fn the_text_is_the_one_that_is_asked_for() {
    let measured = Measured::serve(&[TCP]);
    let ask = |accept: &str, method: &str| {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{accept}\r\n");
        Answer::ask(&measured.metrics, &request)
    };
    let text = ask("", "GET");
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.body.contains("# TYPE plugsock_requests_total counter\n"), "{}", text.body);
    let open = ask("Accept: application/openmetrics-text; version=1.0.0\r\n", "GET");
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.body.contains("# TYPE plugsock_requests counter\n") && open.body.ends_with("\n# EOF\n"));
    let head = ask("", "HEAD");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("content-length").parse::<usize>().unwrap() > 1000);
}

#[test]
fn an_address_that_cannot_be() {
    let taken = Measured::serve(&[TCP]);
    let taken = taken.metrics.to_string();
    for (address, word) in [
        ("udp://127.0.0.1:0", "write tcp://HOST:PORT or unix:///PATH"),
        ("tls://127.0.0.1:0", "write tcp://HOST:PORT or unix:///PATH"),
        ("unix:///nowhere/at/all", "its directory does not exist"),
        (&taken, "another server uses this address"),
    ] {
        let ended = run(crate::harness::plugsock().args(["serve", TCP, "--metrics", address]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("--metrics: ") && ended.stderr.contains(word), "{ended:?}");
    }
}
