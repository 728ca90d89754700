//! NATS that is away: at the start, later, and for good.

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::wait_until;

/// Which nobody hears of but the log, once.
#[test]
fn a_server_that_is_killed_and_comes_back() {
    let Some(mut fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a", "b"]);
    done(fleet.roll_out("two", &["--stages", "1,all"]));
    wait_until(|| fleet.summary()["stage"] == 1);
    fleet.nats.kill();
    for host in &hosts {
        host.log.wait_for("what is here is served on, and it is tried again");
        assert!(["one", "two"].contains(&who(host).as_str()));
    }
    fleet.nats.restart();
    fleet.wait_for("complete");
    all_serve(&hosts, "two");
    for host in &hosts {
        host.log.wait_for("NATS is there again");
        assert_eq!(host.log.lines_with("what is here is served on").len(), 1);
    }
}

/// A host that has not heard of it goes back to its own all the same, by what is there when it looks again.
#[test]
fn what_was_removed_meanwhile_is_rolled_out_no_more() {
    let Some(mut fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a"]);
    done(fleet.roll_out("two", &["--wait", "--timeout", "60s"]));
    all_serve(&hosts, "two");
    fleet.nats.kill();
    hosts[0].log.wait_for("what is here is served on, and it is tried again");
    fleet.nats.remove_while_away("desired.web.app");
    assert_eq!(who(&hosts[0]), "two");
    fleet.nats.restart();
    all_serve(&hosts, "one");
    assert_eq!(fleet.summary()["state"], "own");
    // The next roll-out is none that there was.
    done(fleet.roll_out("six", &["--wait", "--timeout", "60s"]));
    assert_eq!(fleet.summary()["generation"], 2);
    all_serve(&hosts, "six");
}

#[test]
fn a_host_that_starts_without_it_serves_what_it_has_kept() {
    let Some(mut fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a"]);
    done(fleet.roll_out("two", &["--wait", "--timeout", "60s"]));
    all_serve(&hosts, "two");
    drop(hosts);
    fleet.nats.kill();
    let kept = fleet.host("a", &[]);
    assert_eq!(who(&kept), "two");
    // Who has nothing serves what was named.
    let fresh = fleet.host("fresh", &[]);
    assert_eq!(who(&fresh), "one");
    for host in [&kept, &fresh] {
        host.log.wait_for("cannot connect to NATS at 127.0.0.1");
    }
    fleet.nats.restart();
    wait_until(|| who(&fresh) == "two");
    fleet.wait_for_hosts(2);
    assert_eq!(fleet.json(&["status", "--group", GROUP])[0]["taken"], 2);
}
