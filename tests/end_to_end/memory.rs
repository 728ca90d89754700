//! A host that the system gives no more memory.

use std::process::Command;

use plugsock::Refused;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{
    Cgroup, Host, address_space, cache_dir, children, for_each_strategy, guest, plugsock, run, wait_until,
};

const TCP: &str = "tcp://127.0.0.1:0";

/// Not enough for a thread, and enough for what a host keeps of a request.
const MARGIN: u64 = 1 << 20;

/// It ends with one line that says what to do.
#[test]
fn a_host_without_the_address_space_for_its_pools_is_not_started() {
    // Forking has no more requests open than it has children.
    let forking = ["--concurrency", "forking", "--max-children", "1000"];
    for options in [&["--concurrency", "threading"][..], &forking] {
        for limit in [1_u64 << 30, 1 << 40] {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -v {} && exec \"$0\" \"$@\"", limit >> 10)]);
            command.arg(plugsock().get_program()).args(["serve", TCP]).args(options).arg("--cache-dir");
            let ended = run(command.arg(cache_dir()));
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
            for word in [&limit.to_string(), "Cannot allocate memory", "ulimit -v", "lower --max-requests"] {
                assert!(ended.stderr.contains(word), "no '{word}' in {ended:?}");
            }
        }
    }
    // So many requests have room.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {} && exec \"$0\" \"$@\"", (1_u64 << 40) >> 10)]);
    command.arg(plugsock().get_program());
    assert_eq!(Host::serve_by(command, &[TCP, "--max-requests", "60"]).ask(b"hello"), b"hello");
}

/// What has a thread and a place in the pools is served, the rest closed and counted; and all is well again when
/// there is memory.
#[test]
fn without_memory_requests_are_closed_and_the_host_lives() {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(&[TCP, "--concurrency", strategy, "--workers", "8"]);
        // What a host makes with its first request.
        assert_eq!(host.ask(b"hello"), b"hello");
        let open = (strategy != "sync").then(|| host.greeted());
        // Threads have made what they need.
        wait_until(|| all_threads_sleep(host.pid()));
        let processes = [vec![host.pid()], children(host.pid())].concat();
        processes.iter().for_each(|process| limit_memory(*process, Some(address_space(*process) + MARGIN)));
        let clients: Vec<_> = (0..if strategy == "sync" { 1 } else { 5 }).map(|_| host.connect()).collect();
        clients.iter().for_each(|client| client.send(b"a"));
        let (served, closed): (Vec<_>, Vec<_>) = clients.iter().partition(|client| !client.is_closed());
        match strategy {
            // A thread that waits for a request serves it.
            "threading" => {
                assert!(closed.len() >= 4, "{} served", served.len());
                host.log.wait_for_count("no thread for it", closed.len());
            }
            // A child may have to raise its limit again, which not every user may.
            "forking" => {}
            _ => assert_eq!(closed.len(), 0),
        }
        let open_goes_on = open.is_none_or(|open| open.exchange(b"b") == b"b");
        assert!(open_goes_on);
        let closed = closed.len() as u64;
        drop(clients);
        processes.iter().for_each(|process| limit_memory(*process, None));
        for _ in 0..5 {
            assert_eq!(host.ask(b"hello"), b"hello");
        }
        let refused = host.status().servers[0].refused;
        let no_thread = if strategy == "threading" { closed } else { 0 };
        assert_eq!(refused, Refused { no_thread, ..Refused::default() });
        assert!(host.terminate().success());
        assert!(!host.log.text().contains("panicked"), "{}", host.log.text());
    });
}

/// The kernel ends whoever has the most, and that is the child that takes it.
#[test]
fn a_child_that_takes_the_last_memory_is_ended_alone() {
    let Some(cgroup) = Cgroup::memory(128 << 20) else { return };
    let args = [TCP, &guest("hostile"), "--concurrency", "forking", "--memory", "1GiB"];
    let mut host = Host::serve_by(cgroup.plugsock(), &args);
    assert_eq!(host.ask(b"nothing\n"), b"well");
    let open = host.connect();
    for count in 1..=3 {
        let taking = host.connect();
        taking.send(b"take memory\n");
        assert!(taking.is_closed());
        host.log.wait_for_count("its process was killed by signal 9", count);
        assert_eq!(host.ask(b"nothing\n"), b"well");
    }
    assert_eq!(open.exchange(b"nothing\n"), b"well");
    assert!(!host.log.text().contains("the fork server"), "{}", host.log.text());
    assert!(host.terminate().success());
}

fn all_threads_sleep(process: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_pid())).unwrap();
    // One that ends meanwhile sleeps for ever.
    let mut stats =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // `PID (NAME) STATE …`
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
}

/// Of its address space.
fn limit_memory(process: Pid, limit: Option<u64>) {
    prlimit(Some(process), Resource::As, Rlimit { current: limit, maximum: None }).unwrap();
}
