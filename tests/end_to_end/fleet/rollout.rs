//! Roll-outs: in stages, under load, and back again when something is wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{Clients, Host, Load, guest, wait_until};

/// What hosts log when they have another version.
const SWAPPED: &str = ": swapped: ";

#[test]
fn stage_by_stage_under_load_and_no_request_is_lost() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a", "b", "c"]);
    let addresses: Vec<_> = hosts.iter().map(Host::address).collect();
    let mut load = Load::start(&addresses, &Clients { short: 2, long: 1, staying: 1 });
    load.wait_for(50);
    let said = done(fleet.roll_out("two", &["--stages", "1,2,all", "--wait", "--timeout", "60s"]));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("web/app: roll-out 1 of two.wasm sha256:"), "{said}");
    assert!(lines[0].ends_with(", in stages 1,2,all"), "{said}");
    for stage in
        ["stage 1 of 3: 1, of 3 hosts", "stage 2 of 3: 2, of 3 hosts", "stage 3 of 3: all, of 3 hosts"]
    {
        assert!(lines.iter().any(|line| line.ends_with(stage)), "no {stage} in {said}");
    }
    assert_eq!(lines.last(), Some(&"web/app: roll-out 1 is complete"));
    all_serve(&hosts, "two");
    load.wait_for(load.requests() + 50);
    let counted = load.finish();
    assert_eq!((counted.failed, counted.mixed), (0, 0), "{counted:?}");
    assert_eq!(counted.versions.keys().collect::<Vec<_>>(), ["one", "two"], "{counted:?}");
    // One after the other, by their names.
    let times: Vec<String> = hosts.iter().map(|host| host.log.wait_for(SWAPPED)).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// Nobody but the first host ever tries it.
#[test]
fn a_version_that_does_not_pass_its_probe() {
    let Some(fleet) = Fleet::start() else { return };
    let names = ["a", "b", "c"];
    let probe = ["--probe", "x\n"];
    let hosts: Vec<Host> = names.iter().map(|name| fleet.host(name, &probe)).collect();
    fleet.wait_for_hosts(3);
    fs::copy(guest("error_in_handle"), fleet.file("bad")).unwrap();
    let ended = fleet.roll_out("bad", &["--wait", "--timeout", "60s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("it has failed: a does not take it: the probe of"), "{ended:?}");
    all_serve(&hosts, "one");
    assert!(hosts.iter().all(|host| host.log.lines_with(SWAPPED).is_empty()));
    assert_eq!(
        hosts.iter().map(|host| host.log.lines_with("is not taken").len()).collect::<Vec<_>>(),
        [1, 0, 0]
    );
    // From then on it is refused, unless somebody insists, and then it is tried.
    let again = fleet.roll_out("bad", &[]);
    assert!(again.code == Some(1) && again.stderr.contains("was rolled back before"), "{again:?}");
    let forced = fleet.roll_out("bad", &["--force", "--wait", "--timeout", "60s"]);
    assert!(forced.code == Some(1) && forced.stderr.contains("a does not take it"), "{forced:?}");
    // Another is taken as ever.
    done(fleet.roll_out("two", &["--stages", "all", "--wait", "--timeout", "60s"]));
    all_serve(&hosts, "two");
}

/// What operators give along is tried by each host, beside its own probe and before any client gets the new version.
#[test]
fn a_probe_comes_with_the_roll_out() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts: Vec<Host> = ["a", "b"].iter().map(|name| fleet.host(name, &["--probe", "own\n"])).collect();
    fleet.wait_for_hosts(2);
    let probe = ["--probe", "who?\\n", "--probe-expect", "two who?\\n", "--wait", "--timeout", "60s"];
    let ended = fleet.roll_out("six", &probe);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let reason = "was answered with \"six who?\\n\", not with \"two who?\\n\" as expected";
    assert!(ended.stderr.contains("a does not take it") && ended.stderr.contains(reason), "{ended:?}");
    all_serve(&hosts, "one");
    assert!(hosts.iter().all(|host| host.log.lines_with(SWAPPED).is_empty()));
    done(fleet.roll_out("two", &probe));
    all_serve(&hosts, "two");
    // Back to what was before is no trial.
    done(fleet.command(&["rollback", "--group", GROUP]));
    all_serve(&hosts, "one");
}

/// It passes no further than the stage that fails, and all serve again what they did.
#[test]
fn a_version_whose_requests_fail() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a", "b", "c"]);
    done(fleet.roll_out("two", &["--stages", "all", "--wait", "--timeout", "60s"]));
    fs::copy(guest("error_in_handle"), fleet.file("bad")).unwrap();
    let is_over = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        for host in &hosts {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    ask(host);
                }
            });
        }
        let ended = fleet.roll_out("bad", &["--wait", "--timeout", "60s"]);
        is_over.store(true, SeqCst);
        ended
    });
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("requests failed, and errors>10%/1s/10 is the most allowed"), "{ended:?}");
    all_serve(&hosts, "two");
    // To `two`, and the first host to the bad one and back.
    assert_eq!(hosts.iter().map(|host| host.log.lines_with(SWAPPED).len()).collect::<Vec<_>>(), [3, 1, 1]);
    assert_eq!(fleet.summary()["state"], "failed");
}

/// Whatever the answer.
fn ask(host: &Host) {
    let address = host.address().to_string();
    let Ok(mut stream) = TcpStream::connect(address.strip_prefix("tcp://").unwrap()) else { return };
    let _ = stream.write_all(b"x\n");
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn another_host_goes_on_when_the_one_that_drives_is_killed() {
    let Some(fleet) = Fleet::start() else { return };
    let mut hosts = fleet.hosts(&["a", "b", "c", "d"]);
    done(fleet.roll_out("two", &["--stages", "1,2,all"]));
    // Each drives once at most here.
    let drives = |host: &Host| !host.log.lines_with("this host drives the roll-outs").is_empty();
    wait_until(|| hosts.iter().any(drives) && fleet.summary()["stage"] == 1);
    let driver = hosts.remove(hosts.iter().position(drives).unwrap());
    driver.signal(Signal::KILL);
    driver.wait_for_exit();
    fleet.wait_for("complete");
    assert!(hosts.iter().any(drives));
    all_serve(&hosts, "two");
    assert_eq!(fleet.summary()["taken"], 3);
}

#[test]
fn labels_say_whom_it_is_for_and_the_next_begins_above_it() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a", "b", "c"]);
    done(fleet.roll_out("two", &["--where", "zone=b", "--wait", "--timeout", "60s"]));
    assert_eq!(hosts.iter().map(who).collect::<Vec<_>>(), ["one", "two", "one"]);
    let summary = fleet.summary();
    assert_eq!(
        (&summary["taken"], &summary["eligible"], &summary["only"]["zone"]),
        (&1.into(), &1.into(), &"b".into())
    );
    done(fleet.roll_out("six", &["--stages", "all", "--wait", "--timeout", "60s"]));
    all_serve(&hosts, "six");
    // Back to what each had.
    let said = done(fleet.command(&["rollback", "--group", GROUP]));
    assert_eq!(said, "web/app: roll-out 2 is rolled back\n");
    for (host, version) in hosts.iter().zip(["one", "two", "one"]) {
        wait_until(|| who(host) == version);
    }
    assert_eq!(fleet.summary()["state"], "rolled-back");
}

#[test]
fn a_pause_keeps_it_where_it_is() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a", "b"]);
    done(fleet.command(&[
        "rollout",
        &fleet.file("two"),
        "--group",
        GROUP,
        "--gate",
        "errors>1%/3s",
        "--stages",
        "1,all",
    ]));
    wait_until(|| who(&hosts[0]) == "two");
    assert_eq!(done(fleet.command(&["pause", "--group", GROUP])), "web/app: roll-out 1 pauses\n");
    // Twice while one is under way would be one too many.
    let second = fleet.roll_out("six", &[]);
    assert!(second.code == Some(1) && second.stderr.contains("is under way"), "{second:?}");
    // For longer than the gate's time, and two reports.
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert_eq!(who(&hosts[1]), "one");
    }
    assert_eq!(fleet.summary()["state"], "paused");
    done(fleet.command(&["resume", "--group", GROUP]));
    fleet.wait_for("complete");
    all_serve(&hosts, "two");
}

/// Before it says that it is ready.
#[test]
fn a_host_that_comes_late_begins_with_what_is_rolled_out() {
    let Some(fleet) = Fleet::start() else { return };
    let _hosts = fleet.hosts(&["a"]);
    let digest = done(fleet.command(&["push", &fleet.file("two")]));
    done(fleet.command(&["rollout", digest.trim(), "--group", GROUP, "--gate", "errors>1%/1s", "--wait"]));
    let late = fleet.host("late", &[]);
    assert!(late.ready[0].contains(&format!(" two.wasm {} ", digest.trim())), "{:?}", late.ready);
    assert_eq!(who(&late), "two");
}
