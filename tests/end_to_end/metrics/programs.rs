//! Prometheus and its tools, as they are installed.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Answer, Measured, TCP};
use crate::harness::{
    Client, Deployed, PATIENCE, for_each_strategy, guest, is_installed, plugin, run, versioned,
};

/// All that there may be is named and typed as it should.
#[test]
fn promtool_finds_nothing_to_say() {
    if !is_installed("promtool") {
        return;
    }
    for_each_strategy(|strategy| {
        let two = Deployed::new(&versioned("two"));
        let (echo, trap, http) = (plugin("echo"), guest("trap_in_handle"), guest("http_versioned"));
        let args = [TCP, &echo, TCP, &trap, TCP, &http, "--concurrency", strategy];
        let measured = Measured::serve_at(TCP, 3, &[&args[..], &["--cpu-time", "50ms"]].concat());
        let host = &measured.host;
        assert_eq!(host.ctl(&["swap", "echo", &two.path(), "--canary", "50%"]).code, Some(0));
        (0..4).for_each(|_| drop(host.ask(b"hello\n")));
        drop(Client::ask(&host.addresses[1], b""));
        drop(Client::ask(&host.addresses[2], b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        measured.wait_for("plugsock_http_responses_total", &[("class", "2xx")], 1.0);
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = measured.get("/metrics").body;
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let ended = promtool.wait_with_output().unwrap();
        let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8(said).unwrap());
        assert!(ended.status.success() && said.iter().all(String::is_empty), "{said:?}\n{text}");
    });
}

/// A real one, which likes OpenMetrics best.
#[test]
fn prometheus_scrapes() {
    if !is_installed("prometheus") {
        return;
    }
    let measured = Measured::serve(&[TCP]);
    (0..7).for_each(|_| drop(measured.host.ask(b"hello")));
    measured.wait_for("plugsock_requests_total", &[], 7.0);
    let target = measured.url("").strip_prefix("http://").unwrap().to_owned();
    let prometheus = Prometheus::scraping(&target);
    let value = prometheus.value("plugsock_requests_total");
    assert!(value.contains("\"slot\":\"echo\"") && value.contains(",\"7\"]"), "{value}");
    let value = prometheus.value("histogram_quantile(0.5,plugsock_request_duration_seconds_bucket)");
    assert!(value.contains("\"generation\":\"1\""), "{value}");
    assert!(prometheus.value("up").contains(",\"1\"]"));
}

/// One that is gone when this is dropped.
struct Prometheus {
    process: Child,
    port: String,
    directory: TempDir,
}

impl Prometheus {
    fn scraping(target: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\n\
             scrape_configs: [{{job_name: plugsock, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        // It takes a port of its own choice, and does not say which.
        let port = free_port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, port, directory }
    }

    /// What it answers to a query, as soon as there is something.
    fn value(&self, query: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let address = format!("tcp://127.0.0.1:{}", self.port).parse().unwrap();
        loop {
            if Client::try_connect(&address).is_ok() {
                let answer = Answer::get(&address, &format!("/api/v1/query?query={query}"));
                if answer.body.contains("\"value\":") {
                    return answer.body;
                }
            }
            let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "no value of {query}:\n{}", log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// One that nobody had a moment ago.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// `curl` finds what a newcomer looks for.
#[test]
fn curl_reads_by_a_unix_socket() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("metrics");
    let measured = Measured::serve_at(&format!("unix://{}", socket.display()), 1, &[TCP]);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-m", "60", "--unix-socket"]).arg(&socket).arg("http://localhost/metrics");
    let ended = run(&mut curl);
    assert!(ended.stdout.contains("plugsock_requests_total{"), "{ended:?}");
    drop(measured);
}
