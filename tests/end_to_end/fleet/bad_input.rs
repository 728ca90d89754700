//! Records that nobody can heed, and components that are not there: each is said once, and all serve on.

use std::fs;

use plugsock::Digest;

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{versioned, wait_until};

/// What the log has of a record that is ignored.
const IGNORED: &str = "it is ignored, and what serves serves on";

#[test]
fn records_that_are_malformed_or_from_the_future() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a"]);
    let (nats, log) = (&fleet.nats, &hosts[0].log);
    let long = format!(r#"{{"format":1,"x":"{}"}}"#, "x".repeat(600 << 10));
    let records = [
        ("desired.web.app", "nonsense", "it is malformed"),
        (
            "desired.web.app",
            r#"{"format":3,"generation":"?"}"#,
            "it is of format 3, and this version of Plugsock knows 2",
        ),
        ("desired.web.app", r#"{"format":1}"#, "it is malformed: missing field"),
        ("rollout.web.app", r#"{"format":1,"generation":-1}"#, "it is malformed"),
        ("drain.web.a", r#"{"format":7}"#, "it is of format 7"),
    ];
    for (number, (key, record, reason)) in records.into_iter().enumerate() {
        nats.put(key, record);
        let lines = log.wait_for_count(IGNORED, number + 1);
        assert!(lines[number].contains(&format!("record {key}: {reason}")), "{lines:?}");
        // Said again it is nothing new.
        nats.put(key, record);
    }
    // Larger than a bucket takes, so that it is not kept at all.
    nats.put("desired.web.app", &long);
    // What nobody knows is nobody's.
    nats.put("other.web.app", "nonsense");
    nats.put("desired.web.else", "nonsense");
    log.wait_for("record desired.web.else");
    assert_eq!(log.lines_with(IGNORED).len(), records.len() + 1);
    assert_eq!(who(&hosts[0]), "one");
    let status = done(fleet.command(&["status", "--group", GROUP]));
    for remark in [
        "desired.web.app: it is malformed",
        "drain.web.a: it is of format 7",
        "web/a: record desired.web.app",
    ] {
        wait_until(|| done(fleet.command(&["status", "--group", GROUP])).contains(remark));
    }
    assert!(!status.contains("panicked"));
    // An operator who insists puts another in its place.
    let refused = fleet.roll_out("two", &["--slot", "app"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--force"), "{refused:?}");
    let insisting = ["--slot", "app", "--force", "--wait", "--timeout", "60s"];
    done(fleet.roll_out("two", &insisting));
    all_serve(&hosts, "two");
    // Roll-outs are counted on from the last that anybody can read of.
    nats.put("desired.web.app", "nonsense");
    nats.put(
        "rollout.web.app",
        r#"{"format":1,"generation":41,"progress":"complete","stage":0,"more":true}"#,
    );
    done(fleet.roll_out("six", &insisting));
    all_serve(&hosts, "six");
    assert_eq!(fleet.json(&["status"])[0]["generation"], 42);
}

/// It is taken when it comes, and its host serves on until then.
#[test]
fn a_component_that_is_not_there() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a"]);
    let digest = Digest::of(&versioned("two"));
    let not_pushed = fleet.command(&["rollout", &digest.to_string(), "--group", GROUP]);
    assert!(
        not_pushed.code == Some(1) && not_pushed.stderr.contains("plugsock fleet push"),
        "{not_pushed:?}"
    );
    fleet.nats.put("desired.web.app", &desired(digest));
    let missing = format!("{digest} is not in the object store");
    let opening = "cannot open the object store";
    wait_until(|| {
        !hosts[0].log.lines_with(opening).is_empty() || !hosts[0].log.lines_with(&missing).is_empty()
    });
    assert_eq!(who(&hosts[0]), "one");
    wait_until(|| done(fleet.command(&["status"])).contains("web/a: slot app: "));
    done(fleet.command(&["push", &fleet.file("two")]));
    fleet.wait_for("complete");
    all_serve(&hosts, "two");
}

/// The digest that operators named is the only one.
#[test]
fn a_component_that_was_changed() {
    let Some(fleet) = Fleet::start() else { return };
    let hosts = fleet.hosts(&["a"]);
    done(fleet.command(&["push", &fleet.file("two")]));
    // A registry's reference whose bytes are others' would say the same; here the record names what the bytes are not.
    let kept = fleet.path("cache").join("fetched");
    fs::create_dir_all(&kept).unwrap();
    let digest = Digest::of(&versioned("two"));
    fs::write(kept.join(format!("{}.wasm", digest.to_string().replace(':', "-"))), versioned("six")).unwrap();
    fleet.nats.put("desired.web.app", &desired(digest));
    fleet.wait_for("complete");
    all_serve(&hosts, "two");
}

fn desired(digest: Digest) -> String {
    format!(
        r#"{{"format":1,"generation":1,"target":{{"digest":"{digest}","name":"two.wasm"}},"stages":["all"],"gate":"errors>1%/1s/10"}}"#
    )
}
