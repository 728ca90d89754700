//! Stores in Redis and NATS: real servers, which go and come back.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::harness::{
    Host, PATIENCE, for_each_strategy, guest, is_installed, plugin, plugsock, run, wait_until,
};

use super::{TCP, all_are_counted, answer, answers, directory, does_every_operation, serve_by};

/// A server of state on a port of loopback, which is gone when this is dropped.
pub struct StateServer {
    pub kind: Kind,
    pub port: u16,
    args: Vec<String>,
    data: TempDir,
    process: Option<Child>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Nats,
}

impl StateServer {
    /// Starts one, if it is installed.
    pub fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, |_| Vec::new())
    }

    /// With further arguments, which may have its port.
    pub fn start_with(kind: Kind, args: impl FnOnce(&str) -> Vec<String>) -> Option<Self> {
        let program = kind.program();
        if !is_installed(program) {
            return None;
        }
        let port = free_port();
        let args = args(&port.to_string());
        let mut server = Self { kind, port, args, data: directory(), process: None };
        server.start_again();
        Some(server)
    }

    fn start_again(&mut self) {
        let (port, data) = (self.port.to_string(), self.data.path());
        let mut command = Command::new(self.kind.program());
        match self.kind {
            Kind::Redis => command.args(["--port", &port, "--bind", "127.0.0.1", "--dir"]).arg(data).args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ]),
            Kind::Nats => command.args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"]).arg(data),
        };
        command.args(&self.args);
        self.process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_until(|| TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn url(&self) -> String {
        match self.kind {
            Kind::Redis => format!("redis://127.0.0.1:{}/1?hash=counts", self.port),
            Kind::Nats => format!("nats://127.0.0.1:{}/counts", self.port),
        }
    }

    fn grant(&self) -> String {
        format!("counts={}", self.url())
    }

    /// Without all that was kept.
    fn clear(&mut self) {
        self.stop();
        self.data = directory();
        self.start_again();
    }
}

/// Nobody else gets the same one soon.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
        }
    }
}

impl Drop for StateServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn for_each_strategy_in(kind: Kind, test: impl Fn(&str, &StateServer)) {
    let Some(server) = StateServer::start(kind) else { return };
    let server = std::cell::RefCell::new(server);
    for_each_strategy(|strategy| {
        server.borrow_mut().clear();
        test(strategy, &server.borrow());
    });
}

#[test]
fn every_operation_is_done_in_redis() {
    for_each_strategy_in(Kind::Redis, |strategy, server| {
        does_every_operation(&serve_by(strategy, &server.grant()));
    });
}

#[test]
fn every_operation_is_done_in_nats() {
    for_each_strategy_in(Kind::Nats, |strategy, server| {
        does_every_operation(&serve_by(strategy, &server.grant()));
    });
}

fn loses_no_increment(kind: Kind) {
    for_each_strategy_in(kind, |strategy, server| {
        let args = [TCP, &plugin("counter"), "--state", &server.grant(), "--concurrency", strategy];
        all_are_counted(&Host::serve(&args));
        // Several hosts at once, and by compare-and-swap.
        let hosts = [serve_by(strategy, &server.grant()), serve_by("threading", &server.grant())];
        thread::scope(|scope| {
            for host in &hosts {
                for _ in 0..3 {
                    scope.spawn(|| answers(host, &["counts increment a 1", "counts update b"].repeat(10)));
                }
            }
        });
        assert_eq!(answers(&hosts[0], &["counts get a", "counts get b"]), ["60", "60"], "{strategy}");
    });
}

#[test]
fn no_increment_is_lost_in_redis() {
    loses_no_increment(Kind::Redis);
}

#[test]
fn no_increment_is_lost_in_nats() {
    loses_no_increment(Kind::Nats);
}

/// What is asked while the server is away fails in its time, and what is asked when it is back succeeds.
fn goes_and_comes_back(kind: Kind) {
    let Some(mut server) = StateServer::start(kind) else { return };
    let hosts: Vec<(&str, Host)> =
        crate::harness::STRATEGIES.map(|strategy| (strategy, serve_by(strategy, &server.grant()))).into();
    for (strategy, host) in &hosts {
        assert_eq!(answer(host, &format!("counts set {strategy} 1")), "set");
    }
    for round in 0..2 {
        server.stop();
        for (strategy, host) in &hosts {
            let failed = answer(host, "counts get a");
            assert!(
                failed.starts_with("error ") && !failed.contains("no store"),
                "{strategy} {round}: {failed}"
            );
        }
        server.start_again();
        for (strategy, host) in &hosts {
            let deadline = std::time::Instant::now() + PATIENCE;
            loop {
                let got = answer(host, &format!("counts get {strategy}"));
                if got == "1" {
                    break;
                }
                assert!(
                    got.starts_with("error ") && std::time::Instant::now() < deadline,
                    "{strategy}: {got}"
                );
            }
        }
    }
}

#[test]
fn redis_goes_and_comes_back() {
    goes_and_comes_back(Kind::Redis);
}

#[test]
fn nats_goes_and_comes_back() {
    goes_and_comes_back(Kind::Nats);
}

/// A host starts all the same, and says so; when the server is there it is used.
#[test]
fn a_server_that_is_not_there_at_the_start_may_come() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(mut server) = StateServer::start(kind) else { continue };
        server.stop();
        let host = serve_by("threading", &server.grant());
        host.log.wait_for("cannot be reached now");
        assert!(answer(&host, "counts get a").starts_with("error "), "{kind:?}");
        server.start_again();
        wait_until(|| answer(&host, "counts set a 1") == "set");
    }
}

/// One that takes connections and says nothing costs the time of an operation.
#[test]
fn a_server_that_does_not_answer_is_not_waited_for_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for url in [format!("redis://127.0.0.1:{port}"), format!("nats://127.0.0.1:{port}/counts")] {
        for_each_strategy(|strategy| {
            let grant = format!("counts={url}");
            let args = ["--state", &grant, "--state-time", "300ms", "--concurrency", strategy];
            let host = Host::serve(&[&[TCP, &guest("state")], &args[..]].concat());
            let failed = answer(&host, "counts get a");
            assert!(failed.starts_with("error "), "{strategy} {url}: {failed}");
        });
    }
}

/// Nor does a request last longer than it may for that.
#[test]
fn a_request_ends_in_its_time_though_it_waits_for_a_server() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let grant = format!("counts=redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    for_each_strategy(|strategy| {
        let args =
            ["--state", &grant, "--state-time", "1h", "--request-time", "500ms", "--concurrency", strategy];
        let host = Host::serve(&[&[TCP, &guest("state")], &args[..]].concat());
        let client = host.connect();
        client.send(b"counts get a\n");
        assert!(client.is_closed(), "{strategy}");
        host.log.wait_for("time limit");
    });
}

#[test]
fn redis_has_what_other_programs_can_read() {
    let Some(server) = StateServer::start(Kind::Redis) else { return };
    let host = serve_by("threading", &server.grant());
    answers(&host, &["counts increment visits 41", "counts increment visits 1"]);
    let port = server.port.to_string();
    let redis =
        |args: &[&str]| run(Command::new("redis-cli").args(["-p", &port, "-n", "1"]).args(args)).stdout;
    assert_eq!(redis(&["HGET", "counts", "visits"]), "42\n");
    redis(&["HINCRBY", "counts", "visits", "1"]);
    assert_eq!(answer(&host, "counts get visits"), "43");
}

#[test]
fn quotas_hold_on_servers() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(server) = StateServer::start(kind) else { continue };
        let grant = server.grant();
        let serve =
            |limit: &[&str]| Host::serve(&[&[TCP, &guest("state"), "--state", &grant], limit].concat());
        let host = serve(&["--state-keys", "3"]);
        let told = answers(
            &host,
            &[
                "counts set a 1",
                "counts set b 1",
                "counts increment c 1",
                "counts set d 1",
                "counts increment e 1",
                "counts set a 2",
            ],
        );
        let full = "error the store has 3 keys, and may have no more";
        assert_eq!(told, ["set", "set", "1", full, full, "set"], "{kind:?}");
        let told = answers(&host, &["counts delete b", "counts get e"]);
        assert_eq!(told, ["deleted", "none"], "{kind:?}");
        let host = serve(&["--state-size", "1000"]);
        let told = answer(&host, "counts set big 2000*x");
        assert!(told.contains("and may have no more than 1000"), "{kind:?}: {told}");
    }
}

#[test]
fn the_command_reaches_servers() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(server) = StateServer::start(kind) else { continue };
        let state = |args: &[&str]| {
            let ended = run(plugsock().arg("state").args(args));
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{kind:?} {args:?}");
            ended.stdout
        };
        let url = server.url();
        state(&["set", &url, "a b", "1"]);
        assert_eq!(state(&["get", &url, "a b"]), "1\n");
        assert_eq!(state(&["list", &url]), "a b\n");
        assert_eq!(state(&["export", &url]), "{\"key\":\"a b\",\"value\":\"1\"}\n");
        state(&["delete", &url, "a b"]);
        assert_eq!(state(&["list", &url]), "");
    }
}

/// What lets one in is not for the log.
#[test]
fn passwords_are_not_shown() {
    let url = "counts=redis://user:secret@127.0.0.1:1/0";
    let host = serve_by("threading", url);
    let line = host.log.wait_for("cannot be reached now");
    assert!(line.contains("redis://user:***@127.0.0.1:1/0"), "{line}");
    assert!(!host.log.text().contains("secret"));
}
