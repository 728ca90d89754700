//! Components that are in a registry, which each host asks itself.

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{run, versioned, wait_until};
use crate::registry::User;
use crate::registry::docker::{DockerRegistry, Settings};

#[test]
fn a_component_in_a_registry() {
    let Some(mut registry) = DockerRegistry::start(Settings::default()) else { return };
    let Some(fleet) = Fleet::start() else { return };
    let (user, plain) = (User::new(), registry.plain_http());
    let host = |name: &str, cache: &str| {
        let cache = fleet.path(cache).display().to_string();
        let args = ["--fleet-trust-all", "--fleet-wait", "2s", "--cache-dir", &cache];
        fleet.host_by(user.plugsock(), name, &[&args[..], &["--registry-plain-http", &plain]].concat())
    };
    let hosts = [host("a", "cache"), host("b", "cache")];
    fleet.wait_for_hosts(2);
    let roll_out = |source: &str| {
        let wait = ["--gate", "errors>10%/1s", "--stages", "1,all", "--wait", "--timeout", "60s"];
        let mut command = user.plugsock();
        command.args(["fleet", "rollout", source, "--group", GROUP, "--slot", "app"]).args(wait);
        run(command.args(["--registry-plain-http", &plain]).env("PLUGSOCK_FLEET", fleet.url()))
    };
    let pinned = registry.push(&user, &versioned("two"), "acme/app:1");
    let said = done(roll_out(&registry.reference("acme/app:1")));
    assert!(said.contains("web/app: roll-out 1 is complete"), "{said}");
    all_serve(&hosts, "two");
    // What the tag stood for then, whatever it stands for now.
    registry.push(&user, &versioned("six"), "acme/app:1");
    assert_eq!(hosts[0].status().slots[0].versions[0].source.as_deref(), Some(&*pinned));
    // A host that comes while the registry is away serves its own until that is there again.
    registry.stop();
    let late = host("late", "cache-of-late");
    assert_eq!(who(&late), "one");
    wait_until(|| done(fleet.command(&["status"])).contains("web/late: slot app: "));
    registry.restart();
    wait_until(|| who(&late) == "two");
    // Whoever has it needs nobody.
    registry.stop();
    drop(late);
    let again = host("again", "cache-of-late");
    assert_eq!(who(&again), "two");
}
