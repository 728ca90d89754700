//! The program itself, rolled out by the same stages.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{Clients, Ended, Host, Load, plugsock, run, wait_until};

/// Where hosts say which program they are.
const PROGRAM: &str = "=program";

/// A fleet with keys for programs, and another program: this one and a few bytes more, which nobody reads.
struct Programs {
    fleet: Fleet,
}

impl Programs {
    fn start() -> Option<Self> {
        Self::of(Fleet::start()?)
    }

    fn of(fleet: Fleet) -> Option<Self> {
        let programs = Self { fleet };
        for key in ["ours", "theirs"] {
            done(run(plugsock().args(["keygen", "--no-password"]).arg(programs.fleet.path(key))));
        }
        programs.make("next", &[&own(), &b"next"[..]].concat());
        Some(programs)
    }

    fn path(&self, name: &str) -> String {
        self.fleet.path(name).display().to_string()
    }

    fn make(&self, name: &str, program: &[u8]) {
        fs::write(self.path(name), program).unwrap();
    }

    fn host(&self, name: &str, args: &[&str]) -> Host {
        self.fleet.host(name, &[&["--fleet-upgrade-key", &self.path("ours.pub")], args].concat())
    }

    fn hosts(&self, names: &[&str]) -> Vec<Host> {
        let hosts = names.iter().map(|name| self.host(name, &[])).collect();
        self.fleet.wait_for_hosts(names.len());
        hosts
    }

    fn upgrade(&self, program: &str, key: &str, args: &[&str]) -> Ended {
        let (program, key) = (self.path(program), self.path(key));
        let own = ["upgrade", &program, "--sign", &key, "--group", GROUP, "--stages", "1,all"];
        self.fleet.command(&[&own[..], args].concat())
    }

    /// The digests of the programs that hosts are.
    fn running(&self) -> Vec<Value> {
        self.fleet.said_by_hosts().iter().map(|host| host["slots"][PROGRAM]["digest"].clone()).collect()
    }

    fn wait_for_running(&self, digests: &[&str]) {
        wait_until(|| self.running() == digests);
    }

    fn summary(&self) -> Value {
        let all = self.fleet.json(&["status", "--group", GROUP]);
        all.as_array().unwrap().iter().find(|slot| slot["slot"] == PROGRAM).cloned().unwrap()
    }
}

/// The process that has taken over as the first, the second, …
fn successor(host: &Host, number: usize) -> Pid {
    let line = host.log.wait_for_count("has taken over", number).remove(number - 1);
    let pid = line.split("process ").nth(1).unwrap().split(' ').next().unwrap();
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

fn own() -> Vec<u8> {
    fs::read(plugsock().get_program()).unwrap()
}

fn digest_of(bytes: &[u8]) -> String {
    plugsock::Digest::of(bytes).to_string()
}

/// One that ends by itself, within a minute and with a short gate.
const WAIT: [&str; 5] = ["--gate", "errors>10%/1s", "--wait", "--timeout", "60s"];

#[test]
fn in_stages_under_load_and_back_again() {
    let Some(programs) = Programs::start() else { return };
    let hosts = programs.hosts(&["a", "b"]);
    let (old, new) = (digest_of(&own()), digest_of(&fs::read(programs.path("next")).unwrap()));
    programs.wait_for_running(&[&old, &old]);
    let addresses: Vec<_> = hosts.iter().map(Host::address).collect();
    let mut load = Load::start(&addresses, &Clients { short: 2, long: 0, staying: 0 });
    load.wait_for(20);
    let said = done(programs.upgrade("next", "ours.key", &WAIT));
    assert!(said.starts_with("web/=program: roll-out 1 of next sha256:"), "{said}");
    assert!(said.ends_with("web/=program: roll-out 1 is complete\n"), "{said}");
    programs.wait_for_running(&[&new, &new]);
    let times: Vec<String> = hosts.iter().map(|host| host.log.wait_for("has taken over")).collect();
    assert!(times.is_sorted(), "{times:?}");
    hosts.iter().for_each(Host::wait_for_exit);
    // Where an operator has another process take over, it is the installed one, which hands over in its turn.
    kill_process(successor(&hosts[0], 1), Signal::USR2).unwrap();
    successor(&hosts[0], 3);
    programs.wait_for_running(&[&new, &new]);
    // What is rolled out of handlers goes on under the new program.
    done(programs.fleet.roll_out("two", &WAIT[2..]));
    all_serve(&hosts, "two");
    done(programs.fleet.command(&["rollback", "--group", GROUP, "--program"]));
    programs.wait_for_running(&[&old, &old]);
    all_serve(&hosts, "two");
    load.wait_for(load.requests() + 20);
    let counted = load.finish();
    assert_eq!((counted.failed, counted.mixed), (0, 0), "{counted:?}");
    assert!(hosts.iter().all(|host| host.log.lines_with("another host").is_empty()));
}

/// Not by default, and not by a key that signs something else.
#[test]
fn nobody_replaces_a_program_without_its_own_key() {
    let Some(programs) = Programs::start() else { return };
    let trusting = programs.fleet.hosts(&["trusting"]);
    let nobody = programs.upgrade("next", "ours.key", &[]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("--fleet-upgrade-key"), "{nobody:?}");
    let hosts = [programs.host("a", &[])];
    programs.fleet.wait_for_hosts(2);
    let old = digest_of(&own());
    let ended = programs.upgrade("next", "theirs.key", &WAIT);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("a does not take it: its signature is not valid"), "{ended:?}");
    // A component is no program, and a program that is none of Plugsock's is not let take over.
    let component = programs.upgrade("two.wasm", "ours.key", &[]);
    assert!(component.stderr.contains("is not a program (ELF)"), "{component:?}");
    programs.make("other", &fs::read("/bin/true").unwrap());
    let ended = programs.upgrade("other", "ours.key", &WAIT);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("which is not Plugsock"), "{ended:?}");
    assert_eq!(programs.running(), [Value::from(old), Value::Null]);
    for host in hosts.iter().chain(&trusting) {
        assert!(host.log.lines_with("to take over").is_empty());
        assert_eq!(who(host), "one");
    }
}

/// The old program serves on where the new one does not start, and none after it is asked to.
#[test]
fn a_program_that_does_not_take_over() {
    let Some(programs) = Programs::start() else { return };
    let config = programs.path("plugsock.toml");
    fs::write(&config, "").unwrap();
    let hosts = [programs.host("a", &["--config", &config]), programs.host("b", &[])];
    programs.fleet.wait_for_hosts(2);
    let old = digest_of(&own());
    // With this nothing starts that has not read it before.
    fs::write(&config, "nonsense").unwrap();
    let ended = programs.upgrade("next", "ours.key", &WAIT);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("a does not take it: it does not take over: it ended before it was ready"),
        "{ended:?}"
    );
    programs.wait_for_running(&[&old, &old]);
    all_serve(&hosts, "one");
    assert!(hosts[1].log.lines_with("to take over").is_empty());
    let again = programs.upgrade("next", "ours.key", &WAIT);
    assert!(again.code == Some(1) && again.stderr.contains("was rolled back before"), "{again:?}");
}

/// What takes over and then dies is not started again and again.
#[test]
fn a_program_that_does_not_stay() {
    // Long enough for the host to come back before it counts as gone.
    let Some(programs) = Fleet::start_with("20s").and_then(Programs::of) else { return };
    let hosts = programs.hosts(&["a", "b"]);
    let (old, new) = (digest_of(&own()), digest_of(&fs::read(programs.path("next")).unwrap()));
    done(programs.upgrade("next", "ours.key", &["--gate", "errors>10%/1h"]));
    programs.wait_for_running(&[&new, &old]);
    kill_process(successor(&hosts[0], 1), Signal::KILL).unwrap();
    let back = programs.host("a", &[]);
    wait_until(|| programs.summary()["state"] == "failed");
    let reason = programs.summary()["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("a does not take it: it took over, and this host was then started anew"),
        "{reason}"
    );
    programs.wait_for_running(&[&old, &old]);
    assert!(back.log.lines_with("to take over").is_empty());
    assert_eq!(who(&back), "one");
}
