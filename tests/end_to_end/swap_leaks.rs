//! Versions that were replaced leave nothing behind, and a host that is killed in a swap nothing broken.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Deployed, Host, plugsock, relabelled, run, versioned};

const TCP: &str = "tcp://127.0.0.1:0";

/// Swaps a host's handler so many times.
fn swap(host: &Host, deployed: &Deployed, swaps: usize) {
    let versions = ["one", "two"].map(versioned);
    let swapped = ": swapped: ";
    let before = host.log.lines_with(swapped).len();
    for number in 1..=swaps {
        deployed.replace(&versions[number % 2]);
        host.signal(Signal::HUP);
        host.log.wait_for_count(swapped, before + number);
        let answer = host.ask(b"1\n");
        assert_eq!(answer, if number % 2 == 0 { b"one 1\n" } else { b"two 1\n" });
    }
}

/// How many mappings the host has.
fn mappings(host: &Host) -> usize {
    fs::read_to_string(format!("/proc/{}/maps", host.pid())).unwrap().lines().count()
}

/// The memory of the host, in MiB.
fn memory(host: &Host) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.split_whitespace().next().unwrap().parse::<usize>().unwrap() / 1024
}

/// Compares what a host holds after some swaps with what it holds after many more.
fn leave_nothing(strategy: &str, swaps: usize) {
    let deployed = Deployed::new(&versioned("one"));
    let host = Host::serve(&[TCP, &deployed.path(), "--concurrency", strategy, "--drain-signal"]);
    swap(&host, &deployed, 20);
    let before = host.resources();
    let (mappings_before, memory_before) = (mappings(&host), memory(&host));
    swap(&host, &deployed, swaps);
    // Threads that serve no more live on for a few seconds.
    host.wait_for_resources(&before);
    let (mappings_after, memory_after) = (mappings(&host), memory(&host));
    eprintln!(
        "{strategy}: {swaps} swaps: mappings {mappings_before} -> {mappings_after}, memory {memory_before} -> \
         {memory_after} MiB, {before:?}"
    );
    // Threads bring their own with them, up to a bound; each version has several.
    assert!(mappings_after <= mappings_before + 40, "mappings {mappings_before} -> {mappings_after}");
    // One version's code alone is larger than what is allowed for each hundred.
    assert!(memory_after <= memory_before + 10, "memory {memory_before} -> {memory_after} MiB");
}

/// Old code is unmapped, and its memory, descriptors, threads and processes are given back.
#[test]
fn a_thousand_swaps_leave_nothing_behind() {
    leave_nothing("threading", 1000);
    leave_nothing("forking", 100);
}

/// O12: whenever a host is killed in a swap, the next one starts, serves, and finds every entry of the cache
/// whole or not there.
#[test]
fn a_host_that_is_killed_in_a_swap_leaves_the_cache_whole() {
    const KILLS: u64 = 15;
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("plugsock").display().to_string();
    let deployed = Deployed::new(&versioned("one"));
    let path = deployed.path();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 0..KILLS {
        let strategy = if kill % 3 == 0 { "forking" } else { "threading" };
        let mut host = Host::serve(&[TCP, &path, "--cache-dir", &cache, "--concurrency", strategy]);
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
        assert!(!host.log.text().contains("cache"), "{}", host.log.text());
        assert_eq!(partial_files(&cache), 0);
        // One that was never compiled before, so that an entry is written.
        deployed.replace(&relabelled(versioned("one"), &kill.to_string()));
        host.signal(Signal::HUP);
        // A xorshift generator.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        thread::sleep(Duration::from_micros(random % 200_000));
        host.signal(Signal::KILL);
        host.wait();
    }
    for kill in 0..KILLS {
        deployed.replace(&relabelled(versioned("one"), &kill.to_string()));
        // It uses the cache as `serve` does, and says what it thinks of an entry.
        let checked = run(plugsock().env("XDG_CACHE_HOME", directory.path()).args(["check", &path]));
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{}", checked.stdout);
    }
    assert_eq!(partial_files(&cache), 0);
}

/// Files that a host was writing.
fn partial_files(cache: &str) -> usize {
    let entries = fs::read_dir(Path::new(cache)).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("partial"))
        .count()
}
