//! `plugsock fleet` as a person and a program see it.

use std::io::Read;
use std::process::Stdio;

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

#[test]
fn what_would_come_to_nothing_is_refused() {
    let Some(fleet) = Fleet::start() else { return };
    let _hosts = fleet.hosts(&["a"]);
    let refused = |args: &[&str], reason: &str| {
        let ended = fleet.command(args);
        assert!(ended.code == Some(1) && ended.stderr.contains(reason), "{ended:?}");
    };
    let digest = done(fleet.command(&["push", &fleet.file("two")]));
    let signed = ["rollout", digest.trim(), "--group", GROUP, "--sign", "release.key"];
    refused(&signed, "--sign signs a file");
    let contrary = ["rollout", digest.trim(), "--group", GROUP, "--where", "zone=a", "--where", "zone=b"];
    refused(&contrary, "label zone cannot be both a and b");
    let ended = run(plugsock()
        .args(["serve", "tcp://127.0.0.1:0", "--fleet", &fleet.url(), "--label", "a=1", "--label", "a=2"])
        .arg("--fleet-trust-all"));
    assert!(ended.code == Some(1) && ended.stderr.contains("label a cannot be both 1 and 2"), "{ended:?}");
    // Nobody can take it, which may be meant so.
    let waits = fleet.roll_out("two", &["--where", "zone=nowhere"]);
    assert!(waits.stderr.contains("no host that is there has this slot and these labels"), "{waits:?}");
    assert_eq!(done(fleet.command(&["pause", "--group", GROUP])), "web/app: roll-out 1 pauses\n");
    done(fleet.command(&["rollback", "--group", GROUP]));
    for command in ["pause", "resume"] {
        refused(
            &[command, "--group", GROUP],
            "web/app: roll-out 1 is rolled-back: it can neither pause nor go on",
        );
    }
    let taken = fleet.roll_out("two", &["--stages", "all", "--wait", "--timeout", "60s"]);
    assert_eq!((taken.code, taken.stderr.as_str()), (Some(0), ""), "{taken:?}");
    refused(&["pause", "--group", GROUP], "web/app: roll-out 2 is complete");
    // Who names no host.
    let ended = run(fleet.plugsock().arg("status").env("PLUGSOCK_FLEET", ""));
    assert!(ended.code == Some(2) && ended.stderr.contains("it names no host"), "{ended:?}");
}

/// Whoever waits for a roll-out learns that another has taken its place.
#[test]
fn a_roll_out_that_is_overtaken_is_not_waited_for() {
    let Some(fleet) = Fleet::start() else { return };
    let _hosts = fleet.hosts(&["a"]);
    let mut waiting = fleet.plugsock();
    let gate = ["--gate", "errors>1%/1h", "--wait", "--timeout", "60s"];
    waiting.args(["rollout", &fleet.file("two"), "--group", GROUP]).args(gate).stdout(Stdio::null());
    let mut waiting = waiting.stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| fleet.summary()["taken"] == 1);
    let record: serde_json::Value = serde_json::from_str(&fleet.nats.get("desired.web.app")).unwrap();
    let mut later = record.clone();
    later["generation"] = 2.into();
    fleet.nats.put("desired.web.app", &later.to_string());
    let mut said = String::new();
    waiting.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
    assert!(said.contains("roll-out 2 has taken its place"), "{said}");
}

/// Also where hosts or operators have made the buckets before, and without a restart of these hosts.
#[test]
fn buckets_are_changed_to_what_is_asked_for() {
    let Some(fleet) = Fleet::start_with("15s") else { return };
    let _hosts = fleet.hosts(&["a"]);
    assert_eq!(fleet.json(&["init"])["host_time"], "15s");
    done(fleet.command(&["init", "--host-time", "12s"]));
    assert_eq!(fleet.json(&["init"])["host_time"], "12s", "what is not said stays");
    let changed = fleet.json(&["init", "--host-time", "3s"]);
    assert_eq!((&changed["host_time"], &changed["replicas"]), (&"3s".into(), &1.into()));
    // A host that was not told learns of it when its word is gone before the next.
    wait_until(|| fleet.said_by_hosts().is_empty());
    wait_until(|| fleet.said_by_hosts().len() == 1);
    done(fleet.roll_out("two", &["--stages", "all", "--wait", "--timeout", "60s"]));
}
