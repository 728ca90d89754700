//! Hosts of several versions in one fleet: each heeds what it can read, keeps what it has where it cannot, and says which it is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use plugsock::Digest;
use serde_json::{Value, json};

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{versioned, wait_until};

/// A host of the first version, as its records show it: its word holds for 3 s.
struct OldHost<'a> {
    fleet: &'a Fleet,
    status: Mutex<Value>,
    is_over: AtomicBool,
}

impl<'a> OldHost<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let slot =
            json!({ "digest": Digest::of(b"own").to_string(), "generation": 0, "ended": 0, "failed": 0 });
        let status = json!({
            "format": 1, "host": "old", "group": GROUP, "version": "0.0.9", "state": "accepting", "open": 0,
            "slots": { "app": slot },
        });
        Self { fleet, status: Mutex::new(status), is_over: AtomicBool::new(false) }
    }

    /// Says what it is until it is over.
    fn run(&self) {
        while !self.is_over.load(SeqCst) {
            self.fleet.nats.put_status("old", &self.status.lock().unwrap().to_string());
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn takes(&self, digest: Digest, generation: u64) {
        let slot = &mut self.status.lock().unwrap()["slots"]["app"];
        (slot["digest"], slot["generation"]) = (digest.to_string().into(), generation.into());
    }
}

#[test]
fn a_roll_out_comes_to_hosts_of_both_versions() {
    let Some(fleet) = Fleet::start() else { return };
    let old = OldHost::new(&fleet);
    let hosts = [fleet.host("new", &[])];
    thread::scope(|scope| {
        scope.spawn(|| old.run());
        fleet.wait_for_hosts(2);
        let versions = fleet.said_by_hosts();
        let versions: Vec<_> = versions.iter().map(|host| host["version"].as_str().unwrap()).collect();
        assert_eq!(versions, [env!("CARGO_PKG_VERSION"), "0.0.9"]);
        done(fleet.roll_out("two", &["--stages", "all"]));
        all_serve(&hosts, "two");
        // All that it says was known from the first.
        assert!(fleet.nats.get("desired.web.app").contains(r#"{"format":1,"#));
        wait_until(|| fleet.summary()["taken"] == 1);
        assert_eq!((&fleet.summary()["state"], &fleet.summary()["eligible"]), (&"running".into(), &2.into()));
        old.takes(Digest::of(&versioned("two")), 1);
        fleet.wait_for("complete");
        // What it does not know is of a later format, which it would say.
        done(fleet.roll_out("six", &["--probe", "who?", "--stages", "all"]));
        assert!(fleet.nats.get("desired.web.app").contains(r#"{"format":2,"#));
        all_serve(&hosts, "six");
        old.is_over.store(true, SeqCst);
    });
}

/// A host that cannot read what is wanted keeps what it has, whatever those make of it that can, and drives nothing.
#[test]
fn what_a_later_version_writes_changes_nothing_here() {
    let Some(fleet) = Fleet::start() else { return };
    let mut hosts = fleet.hosts(&["a"]);
    done(fleet.roll_out("two", &["--wait", "--timeout", "60s"]));
    all_serve(&hosts, "two");
    let nats = &fleet.nats;
    nats.put("desired.web.app", r#"{"format":3,"generation":2,"target":"as nobody knows it"}"#);
    hosts[0].log.wait_for("record desired.web.app: it is of format 3, and this version of Plugsock knows 2");
    let driven = r#"{"format":1,"generation":2,"progress":"running","stage":0,"allowed":["b"],"eligible":2}"#;
    nats.put("rollout.web.app", driven);
    // What comes after that has been read as well.
    nats.put("drain.web.a", "nonsense");
    hosts[0].log.wait_for("record drain.web.a");
    wait_until(|| {
        done(fleet.command(&["status"])).contains("web/a: record desired.web.app: it is of format 3")
    });
    assert_eq!(who(&hosts[0]), "two");
    assert_eq!(nats.get("rollout.web.app"), driven);
    assert_eq!(hosts[0].log.lines_with(": swapped: ").len(), 1);
    // Also when it begins anew.
    assert!(hosts[0].terminate().success());
    let again = fleet.host("a", &[]);
    assert_eq!(who(&again), "two");
    assert_eq!(nats.get("rollout.web.app"), driven);
}
