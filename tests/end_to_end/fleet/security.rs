//! Who may say what is served, and whom hosts believe.

use tempfile::TempDir;

use super::{Fleet, GROUP, all_serve, done, who};
use crate::harness::{Authority, Host, Identity, plugsock, run, versioned, wait_until};

#[test]
fn without_a_key_a_host_joins_no_fleet() {
    let ended = run(plugsock().args(["serve", "tcp://127.0.0.1:0", "--fleet", "nats://127.0.0.1:1"]));
    assert_eq!(ended.code, Some(1));
    for word in ["--public-key", "--digest", "--fleet-trust-all"] {
        assert!(ended.stderr.contains(word), "{ended:?}");
    }
}

/// What is signed by another is taken by nobody, and never passes the first stage.
#[test]
fn a_signature_that_does_not_count() {
    let Some(fleet) = Fleet::start() else { return };
    for key in ["ours", "theirs"] {
        done(run(plugsock().args(["keygen", "--no-password"]).arg(fleet.path(key))));
    }
    let path = |name: &str| fleet.path(name).display().to_string();
    done(run(plugsock().args(["sign", "--key", &path("ours.key"), &fleet.file("app")])));
    let key = ["--public-key", &path("ours.pub")];
    let hosts: Vec<Host> = ["a", "b"].iter().map(|name| fleet.host_by(plugsock(), name, &key)).collect();
    fleet.wait_for_hosts(2);
    let wait = ["--wait", "--timeout", "60s"];
    for (sign, reason) in
        [(&["--sign", &path("theirs.key")][..], "no signature"), (&["--force"], "a signature is required")]
    {
        let ended = fleet.roll_out(if sign.len() == 1 { "six" } else { "two" }, &[sign, &wait].concat());
        assert!(ended.code == Some(1) && ended.stderr.contains("a does not take it"), "{ended:?}");
        assert!(ended.stderr.contains(reason), "{ended:?}");
        all_serve(&hosts, "one");
    }
    assert!(hosts[1].log.lines_with("is not taken").is_empty());
    done(fleet.roll_out("two", &[&["--sign", &path("ours.key"), "--force"][..], &wait].concat()));
    all_serve(&hosts, "two");
}

/// Nobody is believed to be NATS for whom the operator's authority has not vouched.
#[test]
fn nats_by_tls() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.server(&["127.0.0.1"]);
    let tls = format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}\n");
    let Some(nats) = super::Nats::configured(|_| tls) else { return };
    let fleet = Fleet { nats, others: Vec::new(), directory: TempDir::new().unwrap() };
    let url = fleet.nats.tls_url();
    let by = |args: &[&str], authority: &Authority| {
        let reach = ["--fleet", &url, "--fleet-ca", &authority.certificate];
        run(plugsock().arg("fleet").args(args).args(reach))
    };
    let theirs = Authority::new();
    let refused = by(&["init"], &theirs);
    assert!(refused.code == Some(1) && refused.stderr.contains("cannot connect to NATS"), "{refused:?}");
    done(by(&["init", "--host-time", "3s"], &authority));
    std::fs::write(fleet.path("app.wasm"), versioned("one")).unwrap();
    std::fs::write(fleet.path("two.wasm"), versioned("two")).unwrap();
    let args = |authority: &Authority| {
        let certificate = authority.certificate.clone();
        ["--fleet-trust-all", "--fleet", &url, "--fleet-group", GROUP, "--fleet-wait", "1s", "--fleet-ca"]
            .into_iter()
            .map(str::to_owned)
            .chain([certificate])
            .collect::<Vec<_>>()
    };
    let host = |name: &str, authority: &Authority| {
        let args = args(authority);
        fleet.host_by(plugsock(), name, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let hosts = [host("a", &authority)];
    let deceived = host("b", &theirs);
    deceived.log.wait_for("cannot connect to NATS");
    let two = fleet.file("two");
    done(by(
        &["rollout", &two, "--group", GROUP, "--slot", "app", "--gate", "errors>1%/1s", "--wait"],
        &authority,
    ));
    all_serve(&hosts, "two");
    assert_eq!(who(&deceived), "one");
}

/// The configuration of the guide: operators write what is wanted, hosts what they do.
#[test]
fn nats_says_who_may_write_what() {
    let guide = include_str!("../../../host/FLEET.md");
    let (_, configuration) = guide.split_once("```conf\n").unwrap();
    let configuration = configuration.split_once("```").unwrap().0.to_owned();
    let Some(nats) = super::Nats::configured(|_| configuration) else { return };
    let operator = nats.url_as("operator:operator-secret@");
    let fleet = Fleet { nats, others: Vec::new(), directory: TempDir::new().unwrap() };
    let as_operator = |args: &[&str]| run(fleet.plugsock().env("PLUGSOCK_FLEET", &operator).args(args));
    // Where nothing was made, hosts say what to do.
    std::fs::write(fleet.path("app.wasm"), versioned("one")).unwrap();
    std::fs::write(fleet.path("two.wasm"), versioned("two")).unwrap();
    let host_url = fleet.nats.url_as("host:host-secret@");
    let args = ["--fleet-trust-all", "--fleet", &host_url, "--fleet-group", GROUP, "--fleet-wait", "1s"];
    let hosts: Vec<Host> = ["a", "b"].iter().map(|name| fleet.host_by(plugsock(), name, &args)).collect();
    hosts[0].log.wait_for("plugsock fleet init");
    done(as_operator(&["init", "--host-time", "3s"]));
    wait_until(|| done(as_operator(&["hosts"])).lines().count() == 3);
    done(as_operator(&["rollout", &fleet.file("two"), "--group", GROUP, "--gate", "errors>1%/1s", "--wait"]));
    all_serve(&hosts, "two");
    // A host may not say what is wanted.
    let host = Some(("host", "host-secret"));
    for subject in [
        "$KV.plugsock-fleet.desired.web.app",
        "$KV.plugsock-fleet.drain.web.a",
        "$JS.API.STREAM.DELETE.KV_plugsock-fleet",
    ] {
        let errors = fleet.nats.publish(host, subject, b"");
        assert!(errors.iter().any(|error| error.contains("Permissions Violation")), "{subject}: {errors:?}");
    }
    done(as_operator(&["drain", "a", "--group", GROUP]));
    hosts[0].log.wait_for("the fleet says to accept nothing");
    done(as_operator(&["undrain", "a", "--group", GROUP]));
    hosts[0].log.wait_for("the fleet says to accept again");
    assert_eq!(who(&hosts[0]), "two");
}

/// What a host may not do is said once, in NATS's words, and left to those who may.
#[test]
fn a_host_that_may_not_drive_leaves_it_to_others() {
    let user = |name: &str, allowed: &str| {
        format!(
            "{{ user: {name}, password: secret, permissions: {{ subscribe: [\"_INBOX.>\"], publish: [\"$JS.>\", {allowed}] }} }}"
        )
    };
    let status = "\"$KV.plugsock-hosts.status.web.>\"";
    let all = format!("{status}, \"$KV.plugsock-hosts.lease.web\", \"$KV.plugsock-fleet.rollout.web.>\"");
    let lease = format!("{status}, \"$KV.plugsock-hosts.lease.web\"");
    let users = [
        "{ user: operator, password: secret }".to_owned(),
        user("no-lease", status),
        user("no-record", &lease),
        user("silent", "\"$KV.plugsock-hosts.lease.web\""),
        user("driver", &all),
    ];
    let configuration = format!("authorization {{ users = [ {} ] }}", users.join(", "));
    let Some(nats) = super::Nats::configured(|_| configuration) else { return };
    let operator = nats.url_as("operator:secret@");
    let fleet = Fleet { nats, others: Vec::new(), directory: TempDir::new().unwrap() };
    let as_operator = |args: &[&str]| run(fleet.plugsock().env("PLUGSOCK_FLEET", &operator).args(args));
    std::fs::write(fleet.path("app.wasm"), versioned("one")).unwrap();
    std::fs::write(fleet.path("two.wasm"), versioned("two")).unwrap();
    done(as_operator(&["init", "--host-time", "2s"]));
    let host = |user: &str| {
        let url = fleet.nats.url_as(&format!("{user}:secret@"));
        let args = ["--fleet-trust-all", "--fleet", &url, "--fleet-group", GROUP];
        fleet.host_by(plugsock(), user, &args)
    };
    let mut hosts = vec![host("no-lease"), host("no-record"), host("silent")];
    hosts[2].log.wait_for("status: cannot write status.web.silent: NATS does not allow Publish");
    wait_until(|| done(as_operator(&["hosts"])).lines().count() == 3);
    done(as_operator(&["rollout", &fleet.file("two"), "--group", GROUP, "--gate", "errors>1%/1s"]));
    hosts[0].log.wait_for("driving: cannot write lease.web: NATS does not allow Publish");
    hosts[1].log.wait_for("driving: cannot write rollout.web.app: NATS does not allow Publish");
    let told = || done(as_operator(&["status"]));
    wait_until(|| told().contains("web/no-lease: driving: cannot write lease.web"));
    wait_until(|| told().contains("web/no-record: driving: cannot write rollout.web.app"));
    hosts.push(host("driver"));
    wait_until(|| told().contains("complete"));
    all_serve(&hosts, "two");
    for host in &hosts {
        let said = host.log.lines_with("NATS does not allow");
        let silent = host.log.lines_with("status: cannot write").len();
        assert!(said.len() - silent <= 1 && silent <= 1, "{said:?}");
        assert!(host.log.lines_with("NATS is there again").is_empty());
    }
}

#[test]
fn what_is_wrong_with_nats_is_said_with_what_to_do() {
    let Some(nats) = super::Nats::configured(|_| "authorization { user: a, password: b }\n".to_owned())
    else {
        return;
    };
    let status = |url: &str| {
        let ended = run(plugsock().args(["fleet", "status", "--fleet", url]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.stderr
    };
    assert!(status(&nats.url()).contains("USER:PASSWORD@HOST"));
    assert!(status(&nats.tls_url().replace("tls://", "tls://a:b@")).contains("it does not speak TLS there"));
    let Some(full) = super::Nats::configured(|_| "jetstream { max_file_store: 40KB }\n".to_owned()) else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("two.wasm");
    std::fs::write(&file, versioned("two")).unwrap();
    let ended = run(plugsock().args(["fleet", "push", "--fleet", &full.url()]).arg(&file));
    assert!(ended.code == Some(1) && ended.stderr.contains("it may keep no more"), "{ended:?}");
    let Some(without) = super::Nats::configured_without_jetstream() else { return };
    assert!(status(&without.url()).contains("it is started with -js"));
}
