//! Hosts and their names: two of one name, one that was killed and comes back, one whose process is another.

use rustix::process::Signal;
use serde_json::Value;

use super::{Fleet, GROUP, done, who};
use crate::harness::{Host, plugsock, wait_until};
use crate::upgrade::{end, upgrade};

/// What the log has of a name that is another's.
const ANOTHERS: &str = "another host of group web is a already";

fn instances(fleet: &Fleet) -> Vec<Value> {
    fleet.said_by_hosts().iter().map(|host| host["instance"].clone()).collect()
}

/// The one that came later says so, serves on, and counts only when the other has gone.
#[test]
fn two_hosts_of_one_name() {
    let Some(fleet) = Fleet::start() else { return };
    let mut first = fleet.host("a", &["--label", "zone=first"]);
    fleet.wait_for_hosts(1);
    let second = fleet.host("a", &["--label", "zone=second"]);
    let line = second.log.wait_for(ANOTHERS);
    assert!(line.contains("--fleet-host"), "{line}");
    fleet.wait_for_hosts(2);
    let remark = format!("web/a: its name: {ANOTHERS}");
    wait_until(|| done(fleet.command(&["status"])).contains(&remark));
    assert_eq!(fleet.summary()["eligible"], 1);
    done(fleet.roll_out("two", &["--wait", "--timeout", "60s"]));
    assert_eq!((&fleet.summary()["taken"], &fleet.summary()["eligible"]), (&1.into(), &1.into()));
    for host in [&first, &second] {
        wait_until(|| who(host) == "two");
    }
    assert!(first.log.lines_with(ANOTHERS).is_empty());
    assert_eq!(second.log.lines_with(ANOTHERS).len(), 1);
    assert!(first.terminate().success());
    wait_until(|| {
        let hosts = fleet.said_by_hosts();
        hosts.len() == 1
            && hosts[0]["labels"]["zone"] == "second"
            && hosts[0]["problems"] == Value::Array(vec![])
    });
    assert!(!done(fleet.command(&["status", "--group", GROUP])).contains(ANOTHERS));
    assert_eq!(who(&second), "two");
}

/// What it said before is its own, if it has kept that, or else holds for a while and is nobody's.
#[test]
fn a_host_that_was_killed_and_comes_back() {
    // With the cache it has its name at once, which an hour's patience would not do without.
    for (host_time, cache) in [("1h", "cache"), ("3s", "another-cache")] {
        let Some(fleet) = Fleet::start_with(host_time) else { return };
        let killed = fleet.host("a", &[]);
        fleet.wait_for_hosts(1);
        let before = instances(&fleet);
        killed.signal(Signal::KILL);
        killed.wait_for_exit();
        let cache = fleet.path(cache).display().to_string();
        let back = fleet.host("a", &["--cache-dir", &cache]);
        wait_until(|| instances(&fleet).first().is_some_and(|now| *now != before[0]));
        assert!(back.log.lines_with("another host").is_empty());
    }
}

#[test]
fn a_process_that_takes_over_is_the_same_host() {
    let Some(fleet) = Fleet::start() else { return };
    let host = fleet.host("a", &[]);
    fleet.wait_for_hosts(1);
    let before = instances(&fleet);
    let successor = upgrade(&host);
    host.wait_for_exit();
    // Which needs a host that says that it has it, and after the gate's time says it again.
    done(fleet.roll_out("two", &["--wait", "--timeout", "60s"]));
    assert_eq!(who(&host), "two");
    assert_eq!(instances(&fleet), before);
    assert!(host.log.lines_with("another host").is_empty());
    end(host, successor);
    wait_until(|| fleet.said_by_hosts().is_empty());
}

/// Though its word would hold for an hour.
#[test]
fn a_host_that_ends_is_gone_at_once() {
    let Some(fleet) = Fleet::start_with("1h") else { return };
    let mut host = fleet.host("a", &[]);
    fleet.wait_for_hosts(1);
    assert!(host.terminate().success());
    assert_eq!(fleet.said_by_hosts(), [] as [Value; 0]);
}

/// Such a host is there all the same, and says why the fleet has no say in it.
#[test]
fn a_slot_that_no_record_can_name() {
    let Some(fleet) = Fleet::start() else { return };
    std::fs::copy(fleet.file("one"), fleet.path("my handler.wasm")).unwrap();
    let (url, handler) = (fleet.url(), fleet.file("my handler"));
    let args = ["tcp://127.0.0.1:0", &handler, "--fleet", &url, "--fleet-group", GROUP, "--fleet-host", "a"];
    let host = Host::serve_sockets(plugsock(), 1, &[&args[..], &["--fleet-trust-all"]].concat());
    let line = host.log.wait_for("the fleet has no say in it");
    assert!(line.contains("'my handler' cannot be a name in a fleet"), "{line}");
    wait_until(|| done(fleet.command(&["status"])).contains("web/a: slots: 'my handler'"));
    let table = done(fleet.command(&["hosts"]));
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["web", "a", "-", "accepting", "-"], "{table}");
    assert_eq!(host.log.lines_with("the fleet has no say in it").len(), 1);
}
