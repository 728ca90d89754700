//! NATS that is away: at the start, later, and for good.

use std::fs;

use plugsock::Digest;
use plugsock::control::ServerState;
use rustix::process::Signal;

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{Host, plugsock, versioned, wait_until};

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

/// Whatever has a handler loaded again: what a slot is to serve is the fleet's word as long as there is one.
#[test]
fn what_is_loaded_again_is_not_what_the_fleet_has_replaced() {
    const HELD: &str = "not loaded again: this slot serves what the fleet says";
    let Some(mut fleet) = Fleet::start() else { return };
    let (config, file) = (fleet.path("plugsock.toml"), fleet.file("app"));
    let configure = |memory: &str| {
        let text = format!(
            "[[server]]\naddress = 'tcp://127.0.0.1:0'\nhandler = 'app'\n[handler.app]\nfile = '{file}'\n\
             memory = '{memory}'\nwatch = true\n"
        );
        fs::write(&config, text).unwrap();
    };
    configure("64MiB");
    let watching = fleet.host("a", &["--watch"]);
    let (url, cache) = (fleet.url(), fleet.path("cache-b").display().to_string());
    let configured = Host::serve_sockets(
        plugsock(),
        1,
        &[
            ["--config", config.to_str().unwrap()],
            ["--fleet-host", "b"],
            ["--cache-dir", &cache],
            ["--fleet", &url],
            ["--fleet-group", GROUP],
        ]
        .concat()
        .into_iter()
        .chain(["--fleet-trust-all"])
        .collect::<Vec<_>>(),
    );
    fleet.wait_for_hosts(2);
    done(fleet.roll_out("two", &["--stages", "all", "--wait", "--timeout", "60s"]));
    let hosts = [watching, configured];
    all_serve(&hosts, "two");
    fleet.nats.kill();
    for host in &hosts {
        host.log.wait_for("what is here is served on, and it is tried again");
    }
    // By a signal, ...
    hosts[0].signal(Signal::HUP);
    hosts[0].log.wait_for_count(HELD, 1);
    // ... by a file that has become another, ...
    fs::write(&file, versioned("six")).unwrap();
    hosts[0].log.wait_for_count(HELD, 2);
    assert_eq!(hosts[0].ask(b"who?\n"), b"two who?\n");
    // ... and with other limits.
    configure("32MiB");
    hosts[1].log.wait_for("reloaded: handler app has another memory");
    assert_eq!(hosts[1].ask(b"who?\n"), b"two who?\n");
    for host in &hosts {
        assert!(host.log.lines_with("swapped: ").iter().all(|line| line.contains(&digest_of("two"))));
    }
    // When the fleet has no say any more, it is the handler as it is now.
    fleet.nats.remove_while_away("desired.web.app");
    fleet.nats.restart();
    all_serve(&hosts, "six");
}

fn digest_of(version: &str) -> String {
    Digest::of(&versioned(version)).to_string()
}

#[test]
fn a_host_that_accepts_nothing_starts_so_without_it() {
    let Some(mut fleet) = Fleet::start() else { return };
    let host = fleet.host("a", &[]);
    fleet.wait_for_hosts(1);
    done(fleet.command(&["drain", "a", "--group", GROUP]));
    host.log.wait_for("the fleet says to accept nothing");
    drop(host);
    fleet.nats.kill();
    let again = fleet.host("a", &[]);
    again.log.wait_for("the fleet says to accept nothing");
    let is_drained = || again.status().servers[0].state == ServerState::Drained;
    wait_until(is_drained);
    fleet.nats.restart();
    wait_until(|| fleet.command(&["undrain", "a", "--group", GROUP]).code == Some(0));
    again.log.wait_for("the fleet says to accept again");
    assert_eq!(who(&again), "one");
}
