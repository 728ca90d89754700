//! `plugsock state`.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::harness::{plugsock, run};

use super::{answer, answers, directory, file, in_file, serve};

/// Runs `plugsock state` with this as its standard input.
fn with_input(args: &[&str], input: &[u8]) -> Output {
    let mut command = plugsock();
    command.arg("state").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints, which is to succeed.
fn state(args: &[&str]) -> String {
    let ended = with_input(args, b"");
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    String::from_utf8(ended.stdout).unwrap()
}

#[test]
fn a_store_is_looked_into_and_changed_while_it_is_served() {
    let directory = directory();
    let file = file(directory.path());
    let host = serve(&["--state", &in_file(directory.path())]);
    answers(&host, &["counts set a one", "counts set b:1 x", "counts increment b:2 5"]);
    assert_eq!(state(&["get", &file, "a"]), "one");
    assert_eq!(state(&["list", &file]), "a\nb:1\nb:2\n");
    assert_eq!(state(&["list", &file, "--prefix", "b:", "--json"]), "[\n  \"b:1\",\n  \"b:2\"\n]\n");
    assert_eq!(state(&["set", &file, "b:2", "41"]), "");
    assert_eq!(answer(&host, "counts increment b:2 1"), "42");
    assert_eq!(state(&["delete", &file, "a"]), "");
    assert_eq!(answer(&host, "counts get a"), "none");
    let missing = run(plugsock().args(["state", "get", &file, "a"]));
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.stderr.contains("there is no key a"), "{missing:?}");
}

#[test]
fn values_pass_byte_for_byte() {
    let directory = directory();
    let file = file(directory.path());
    let value: Vec<u8> = (0..=255).collect();
    let set = with_input(&["set", &file, "k\n\u{1b}"], &value);
    assert!(set.status.success(), "{set:?}");
    assert_eq!(with_input(&["get", &file, "k\n\u{1b}"], b"").stdout, value);
    let shown: serde_json::Value =
        serde_json::from_str(&state(&["get", &file, "k\n\u{1b}", "--json"])).unwrap();
    assert!(shown["base64"].as_str().unwrap().starts_with("AAECAwQF"), "{shown}");
    // What would control a terminal is escaped.
    assert_eq!(state(&["list", &file]), "k\\n\\u{1b}\n");
    state(&["set", &file, "text", "täxt"]);
    let exported = state(&["export", &file]);
    assert_eq!(exported.lines().count(), 2);
    assert!(exported.contains("{\"key\":\"text\",\"value\":\"täxt\"}\n"), "{exported}");
    let copy = format!("{file}2");
    let imported = with_input(&["import", &copy], exported.as_bytes());
    assert!(imported.status.success(), "{imported:?}");
    assert_eq!(String::from_utf8_lossy(&imported.stderr), "2 entries were set\n");
    assert_eq!(state(&["export", &copy]), exported);
}

#[test]
fn many_entries_are_exported_and_imported() {
    let directory = directory();
    let file = file(directory.path());
    let host = serve(&["--state", &in_file(directory.path())]);
    answers(&host, &["counts fill 2500"]);
    let exported = state(&["export", &file, "--prefix", "fill:"]);
    assert_eq!(exported.lines().count(), 2500);
    let copy = format!("{file}2");
    assert!(with_input(&["import", &copy], exported.as_bytes()).status.success());
    assert_eq!(state(&["export", &copy]), exported);
}

#[test]
fn what_is_wrong_is_said() {
    let directory = directory();
    let file = file(directory.path());
    let failed = |args: &[&str], input: &[u8], code: i32, reason: &str| {
        let ended = with_input(args, input);
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    };
    failed(&["get", &file, "a"], b"", 1, "there is no such file");
    failed(&["get", "memory", "a"], b"", 1, "it alone can reach");
    failed(&["get", "nowhere", "a"], b"", 2, "write memory, file:PATH");
    failed(&["import", &file], b"{\"key\":\"a\",\"value\":\"1\"}\nnonsense\n", 1, "line 2");
    failed(&["import", &file], b"{\"key\":\"a\"}\n", 1, "either a `value` or `base64`");
    failed(&["import", &file], b"{\"key\":\"a\",\"base64\":\"?\"}\n", 1, "line 1");
    failed(&["import", &file], b"{\"key\":\"a\",\"value\":\"1\",\"more\":1}\n", 1, "unknown field");
    failed(&["delete", &file, "a"], b"", 1, "there is no key a");
}
