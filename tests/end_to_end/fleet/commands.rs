//! `plugsock fleet` as a person and a program see it.

use super::{Fleet, GROUP, done};
use crate::harness::{plugsock, run, wait_until};

#[test]
fn tables_and_json_say_what_is_where() {
    let Some(fleet) = Fleet::start() else { return };
    let _hosts = fleet.hosts(&["a", "b"]);
    let own = done(fleet.command(&["status"]));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<&str> = own.lines().collect();
    assert_eq!(
        words(lines[0]),
        ["GROUP", "SLOT", "GEN", "STATE", "STAGE", "HANDLER", "DIGEST", "HOSTS", "TOTAL", "FAILED"]
    );
    assert_eq!(words(lines[1]), ["web", "app", "-", "own", "-", "-", "-", "0/2", "0", "0"]);
    done(fleet.roll_out("two", &["--stages", "1", "--wait", "--timeout", "60s"]));
    let summary = fleet.summary();
    assert_eq!(summary["stages"].as_array().unwrap().len(), 2, "the last is all: {summary}");
    assert_eq!((&summary["taken"], &summary["generation"]), (&2.into(), &1.into()), "{summary}");
    let status = done(fleet.command(&["status"]));
    let digest = &summary["digest"].as_str().unwrap()[..19];
    let row = words(status.lines().nth(1).unwrap());
    assert_eq!(row[..9], ["web", "app", "1", "complete", "2/2", "all", "two.wasm", digest, "2/2"]);
    let table = done(fleet.command(&["hosts"]));
    let row = words(table.lines().nth(1).unwrap());
    assert_eq!(row[..7], ["web", "a", "zone=a", "accepting", "app", digest, "1"]);
    // No line is wider than there is room for.
    let narrow = run(fleet.plugsock().arg("status").env("COLUMNS", "60"));
    assert!(narrow.stdout.lines().all(|line| line.chars().count() <= 60), "{narrow:?}");
    assert_eq!(fleet.json(&["status", "--group", "nobody"]), serde_json::json!([]));
}

#[test]
fn a_host_that_is_drained_accepts_nothing_until_it_is_undrained() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a", "b"]);
    let state = |host: usize| fleet.json(&["hosts"])[host]["state"].clone();
    assert_eq!(done(fleet.command(&["drain", "a", "--group", GROUP])), "web/a is to accept nothing\n");
    wait_until(|| state(0) == "drained");
    assert_eq!(state(1), "accepting");
    assert_eq!(hosts[0].status().servers[0].state, plugsock::control::ServerState::Drained);
    let waiting = hosts[0].connect();
    // Also when it comes again.
    assert_eq!(done(fleet.command(&["undrain", "a", "--group", GROUP])), "web/a is to accept again\n");
    wait_until(|| state(0) == "accepting");
    assert_eq!(waiting.exchange(b"who?\n"), b"one who?\n");
    let nobody = fleet.command(&["drain", "c", "--group", GROUP]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("there is no host c"), "{nobody:?}");
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let ended = run(plugsock().args(["fleet", "status"]).env_remove("PLUGSOCK_FLEET"));
    assert!(ended.code == Some(1) && ended.stderr.contains("PLUGSOCK_FLEET"), "{ended:?}");
    let ended = run(plugsock().args(["fleet", "status", "--fleet", "nats://user:secret@127.0.0.1:1"]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot connect to NATS at 127.0.0.1:1"), "{ended:?}");
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
    for wrong in [
        &["--stages", "none"][..],
        &["--gate", "1%"],
        &["--where", "a"],
        &["--group", "a.b"],
        &["--timeout", "1s"],
    ] {
        let args = [&["fleet", "rollout", "x.wasm", "--fleet", "nats://127.0.0.1:1"], wrong].concat();
        let ended = run(plugsock().args(args));
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
    let Some(fleet) = Fleet::start() else { return };
    let nobody = fleet.roll_out("two", &[]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("name the slot with --slot"), "{nobody:?}");
    let nothing = fleet.command(&["rollback", "--slot", "app"]);
    assert!(nothing.code == Some(1) && nothing.stderr.contains("nothing was ever rolled out"), "{nothing:?}");
}
