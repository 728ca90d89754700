//! How much a fleet of many hosts asks of one NATS: the hosts' part in this process, as many times, without clients of theirs.
//! Runs with `PLUGSOCK_LONG_TESTS`, and prints what it has measured.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, FromArgMatches};
use plugsock::{Slot, SlotOptions};
use serde_json::Value;
use tempfile::TempDir;

use super::member::{Joining, join};
use super::options::Membership;
use super::store::Reach;
use crate::cli::executable;
use crate::cli::handler_source::HandlerSource;
use crate::cli::plan::PlannedHandler;
use crate::cli::registry::{Registry, RegistryArgs};
use crate::cli::running::{Plug, Serving};
use crate::cli::serve::HandlerArgs;

const HOSTS: usize = 500;

/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Gone when this is dropped.
struct Nats(Child);

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Nats {
    /// In a directory; with its URL, and where it says what it does.
    fn start(directory: &Path) -> (Self, String, String) {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-js", "-sd"]).arg(directory.join("store"));
        command.arg("--ports_file_dir").arg(directory).stdout(Stdio::null()).stderr(Stdio::null());
        let nats = Self(command.spawn().unwrap());
        let ports = directory.join(format!("nats-server_{}.ports", nats.0.id()));
        let read = || -> Option<Value> { serde_json::from_slice(&fs::read(&ports).ok()?).ok() };
        wait_until(|| read().is_some());
        let ports = read().unwrap();
        let url = |kind: &str| ports[kind][0].as_str().unwrap().to_owned();
        (nats, url("nats"), url("monitoring"))
    }

    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
        line.strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Messages and bytes so far, in both directions.
fn traffic(monitoring: &str) -> (u64, u64) {
    let mut stream = TcpStream::connect(monitoring.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let varz: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let sum = |one: &str, other: &str| varz[one].as_u64().unwrap() + varz[other].as_u64().unwrap();
    (sum("in_msgs", "out_msgs"), sum("in_bytes", "out_bytes"))
}

fn parsed<T: Args + FromArgMatches>() -> T {
    let command = T::augment_args(clap::Command::new("test").no_binary_name(true));
    T::from_arg_matches(&command.get_matches_from([""; 0])).unwrap()
}

#[test]
fn five_hundred_hosts_and_one_nats() {
    if std::env::var_os("PLUGSOCK_LONG_TESTS").is_none() {
        return;
    }
    if Command::new("nats-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: nats-server is not installed");
        return;
    }
    let directory = TempDir::new().unwrap();
    let (nats, url, monitoring) = Nats::start(directory.path());
    let options = plugsock::SandboxOptions { cache: None, ..Default::default() };
    let sandbox = plugsock::Sandbox::new(options).unwrap();
    let registry: Registry = parsed::<RegistryArgs>().registry(None);
    let planned = PlannedHandler {
        name: "app".to_owned(),
        source: HandlerSource::Echo,
        args: parsed::<HandlerArgs>(),
        settings: Vec::new(),
        place: None,
    };
    let echo = sandbox.echo().unwrap();
    let reach = Reach { servers: vec![url.parse().unwrap()], credentials: None, ca: None };
    let begun = Instant::now();
    let hosts: Vec<Arc<Mutex<Serving>>> = (0..HOSTS)
        .map(|number| {
            let options = SlotOptions { name: Some("app".to_owned()), ..SlotOptions::default() };
            let slot = Slot::new(echo.clone(), options).unwrap();
            let plug = Plug::new(slot, planned.clone(), sandbox.clone(), registry.clone());
            let serving = Arc::new(Mutex::new(Serving { plugs: vec![plug], ..Serving::default() }));
            let membership = Membership {
                reach: reach.clone(),
                group: "web".to_owned(),
                host: format!("host-{number:03}"),
                labels: Default::default(),
                wait: PATIENCE,
                upgrade_keys: Vec::new(),
            };
            let executable = executable::find(false).unwrap();
            let joining = Joining { registry: registry.clone(), kept: None, executable, is_successor: false };
            drop(join(membership, &serving, joining).unwrap());
            serving
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (store, _notices) = runtime.block_on(super::store::open(&reach, "test", Default::default())).unwrap();
    let all = || runtime.block_on(store.all(&store.hosts, "status.web.>")).unwrap();
    wait_until(|| all().len() == HOSTS);
    println!("{HOSTS} hosts have joined after {:.1?}", begun.elapsed());
    let time = store.host_time() * 2;
    let before = traffic(&monitoring);
    thread::sleep(time);
    let idle = traffic(&monitoring);
    let rate = |count: u64| count as f64 / HOSTS as f64 / time.as_secs_f64();
    let (messages, bytes) = (rate(idle.0 - before.0), rate(idle.1 - before.1));
    println!(
        "idle: {messages:.2} messages and {bytes:.0} bytes a host and second; NATS has {} MiB",
        nats.memory() >> 20
    );
    // With a section that has a name and nothing else.
    let echo = fs::read(env!("PLUGSOCK_ECHO")).unwrap();
    let next = [&echo[..], &[0, 2, 1, b'x']].concat();
    let digest = runtime.block_on(store.keep("next.wasm", &next, None, 1)).unwrap();
    let desired = serde_json::json!({
        "format": 1, "generation": 1, "target": { "digest": digest.to_string(), "name": "next.wasm" },
        "stages": ["1", "10%", "50%", "all"], "gate": "errors>1%/1s/10",
    });
    let (before, begun) = (traffic(&monitoring), Instant::now());
    runtime.block_on(store.put(&store.records, "desired.web.app", &desired)).unwrap();
    let has_it = |serving: &Arc<Mutex<Serving>>| {
        serving.lock().unwrap().plugs[0].slot.current().digest() == digest.to_string()
    };
    wait_until(|| hosts.iter().all(has_it));
    let (elapsed, after) = (begun.elapsed(), traffic(&monitoring));
    let per_host = |count: u64| count as f64 / HOSTS as f64;
    let (messages, bytes) = (per_host(after.0 - before.0), per_host(after.1 - before.1));
    println!(
        "a roll-out of {} bytes in four stages: {elapsed:.1?}, {messages:.0} messages and {bytes:.0} bytes a host; NATS has {} MiB",
        next.len(),
        nats.memory() >> 20
    );
    for serving in &hosts {
        serving.lock().unwrap().is_closing = true;
    }
}
