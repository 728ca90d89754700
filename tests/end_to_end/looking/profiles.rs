//! `plugsock call --profile`: where a guest spends its time.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ended, cache_dir, plugsock, run, written};

fn call(handler: &str, profile: &str, args: &[&str]) -> Ended {
    let mut call = plugsock();
    call.args(["call", handler, "--profile", profile, "--cache-dir"]).arg(cache_dir()).args(args);
    run(&mut call)
}

/// Whether the profile has samples, and among them functions of this name.
fn check(file: &str, function: &str) {
    let profile: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(profile["meta"]["interval"], 1.0, "{}", profile["meta"]);
    let [thread] = &profile["threads"].as_array().unwrap()[..] else { panic!("one thread") };
    // A hundred million rounds take tens of milliseconds anywhere.
    assert!(thread["samples"]["length"].as_u64().unwrap() > 5, "{}", thread["samples"]);
    let strings = profile["shared"]["stringArray"].as_array().or(thread["stringArray"].as_array()).unwrap();
    assert!(strings.iter().any(|name| name == function), "no {function} in {strings:?}");
}

#[test]
fn it_names_the_functions_of_handlers_and_programs() {
    for (handler, function) in [("computes", "spin"), ("preview1_computes", "spin"), ("computes", "handle")] {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("out.json");
        let file = file.to_str().unwrap();
        let ended = call(&written(handler), file, &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        check(file, function);
    }
}

/// What is too slow is what one wants to look into.
#[test]
fn it_is_written_when_the_guest_runs_into_a_limit() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("out.json");
    let file = file.to_str().unwrap();
    let ended = call(&written("preview1_loop"), file, &["--cpu-time", "100ms"]);
    assert!(ended.stderr.contains("CPU time limit"), "{ended:?}");
    check(file, "<wasm function 0>");
    let ended = call(&written("preview1_loop"), "/no/such/directory/out.json", &[]);
    assert!(ended.code == Some(1) && ended.stderr.contains("cannot write the profile"), "{ended:?}");
}
