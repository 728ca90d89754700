//! Addresses of servers have passwords in them, and credentials are read from files: none of that is shown to anybody.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Client, Host, guest, plugsock, run};

const TCP: &str = "tcp://127.0.0.1:0";

const PASSWORD: &str = "hunter2";
/// What headers have of it, for each who asks.
const ENCODED: [&str; 2] = ["YXBwOmh1bnRlcjI=", "OmFwcDpodW50ZXIy"];

/// Addresses at which nobody answers.
const ADDRESSES: [&str; 6] = [
    "--state=cache=redis://app:hunter2@127.0.0.1:1/0",
    "--state=safe=rediss://app:hunter2@127.0.0.1:1/0?hash=a",
    "--state=queue=nats://hunter2@127.0.0.1:1/queue",
    "--fleet=nats://app:hunter2@127.0.0.1:1",
    "--otlp=http://app:hunter2@127.0.0.1:1",
    "--env=DATABASE=postgres://app:hunter2@127.0.0.1:1/a",
];

fn says_no_password(what: &str, text: &str) {
    for secret in [&[PASSWORD][..], &ENCODED].concat() {
        assert!(!text.contains(secret), "{what} says {secret}:\n{text:.8000}");
    }
}

/// Runs a command, and returns all that it says.
fn said(args: &[&str]) -> String {
    let ended = run(plugsock().args(args));
    let said = ended.stdout + &ended.stderr;
    says_no_password(&args.join(" "), &said);
    said
}

#[test]
fn the_configuration_in_force_has_none() {
    for format in [&[][..], &["--json"]] {
        let shown = said(&[&["config", "show"][..], &ADDRESSES, format].concat());
        for part in ["cache=redis://app:***@127.0.0.1:1/0", "queue=nats://***@127.0.0.1:1", "http://app:***@"]
        {
            assert!(shown.contains(part), "{shown}");
        }
    }
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("plugsock.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, "[grants]\nstate = ['a=redis://app:hunter2@127.0.0.1:1']\n").unwrap();
    assert!(said(&["config", "show", "--config", file]).contains("a=redis://app:***@127.0.0.1:1"));
    std::fs::write(file, "[grants]\nstate = ['a=redis://app:hunter2@127.0.0.1:1?no=1']\n").unwrap();
    for command in [&["config", "check", file][..], &["serve", "--config", file]] {
        let told = said(command);
        assert!(told.contains("redis://app:***@127.0.0.1:1?no=1") && told.contains("?hash=NAME"), "{told}");
    }
}

#[test]
fn what_is_wrong_with_an_address_is_said_without() {
    for (args, part) in [
        (&["serve", "--state", "a=redis://app:hunter2@b?c=d"][..], "a=redis://app:***@b"),
        (&["serve", "--state", "a=redis://app:hunter2/#?@b"], "%2F"),
        (&["serve", "--state", "a=nats://hunter2@b"], "a=nats://***@b"),
        (&["serve", "--fleet", "gopher://app:hunter2@b"], "gopher://app:***@b"),
        (&["serve", "--metrics", "http://app:hunter2@b"], "http://app:***@b"),
        (&["serve", "tcp://app:hunter2@b:1:2"], "tcp://app:***@b:1:2"),
        (&["serve", "oci://app:hunter2@b/c"], "oci://app:***@b/c"),
        (&["state", "get", "redis://app:hunter2@b?c=d", "a"], "redis://app:***@b"),
        (&["state", "get", "redis://app:hunter2@127.0.0.1:1/0", "a"], "Redis cannot be reached"),
        (&["state", "get", "nats://app:hunter2@127.0.0.1:1/b", "a"], "NATS cannot be reached"),
        (&["state", "list", "redis://app:hunter2@b", "redis://app:hunter2@c"], "redis://app:***@c"),
        (&["fleet", "status", "--fleet", "nats://app:hunter2@127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        let told = said(args);
        assert!(told.contains(part), "{args:?}: {told}");
    }
}

/// Also where all is logged that there is to be logged, by what this host is made of, too.
#[test]
fn a_host_shows_none_anywhere() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("plugsock.toml");
    let configure = |password: &str, more: &str| {
        let text = format!(
            "[[server]]\naddress = '{TCP}'\n[handler.a]\nfile = '{}'\n\
             state = ['counts=redis://app:{password}@127.0.0.1:1/0', 'queue=nats://app:{password}@127.0.0.1:1/q']\n{more}",
            guest("state")
        );
        std::fs::write(&path, text).unwrap();
    };
    configure(PASSWORD, "");
    let config = path.to_str().unwrap();
    let fleet = ["--fleet-trust-all", "--fleet-wait", "1ms"];
    let metrics = ["--metrics", TCP, "--log-level", "trace", "--config", config];
    let mut command = plugsock();
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "50").env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let mut host = Host::serve_sockets(command, 1, &[&metrics[..], &fleet, &ADDRESSES[3..5]].concat());
    let shown = host.line();
    let shown = shown.strip_prefix("metrics ").unwrap().trim_end().parse().unwrap();
    for store in ["counts", "queue"] {
        let answer = String::from_utf8(host.ask(format!("{store} get a\n").as_bytes())).unwrap();
        assert!(answer.contains("cannot be reached"), "{answer}");
        says_no_password("a guest", &answer);
    }
    for words in [
        "state in redis://app:***@127.0.0.1:1/0 cannot be reached",
        "state in nats://app:***@",
        "spans to the collector",
    ] {
        host.log.wait_for(words);
    }
    for path in ["/metrics", "/", "/status"] {
        let page = Client::ask(
            &shown,
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let page = String::from_utf8(page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        says_no_password(path, &page);
    }
    for args in [&["status"][..], &["status", "--json"], &["versions"]] {
        let told = host.ctl(args);
        assert_eq!(told.code, Some(0), "{told:?}");
        says_no_password(&args.join(" "), &(told.stdout + &told.stderr));
    }
    // Another password is another store.
    configure("hunter22", "");
    let told = host.ctl(&["reload"]);
    assert!(told.code == Some(0) && told.stdout.contains("another state"), "{told:?}");
    configure(PASSWORD, "stat = []\n");
    let told = host.ctl(&["reload"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    configure("hunter2?", "");
    let refused = host.ctl(&["reload"]);
    assert!(refused.stderr.contains("%3F"), "{refused:?}");
    says_no_password("a reload", &(told.stderr + &refused.stderr));
    host.signal(Signal::HUP);
    host.log.wait_for_count("not reloaded", 3);
    assert_eq!(host.terminate().code(), Some(0));
    says_no_password("the log", &host.log.text());
}

/// A registry that lets nobody in.
#[test]
fn what_a_registry_is_told_is_not_shown() {
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = registry.local_addr().unwrap();
    let (heard, asked) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut client in registry.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if client.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.extend(byte);
            }
            let _ = heard.send(String::from_utf8_lossy(&head).into_owned());
            let refusal = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"http://app:hunter2@b\"\r\nContent-Length: 0\r\n\
                           Connection: close\r\n\r\n";
            let _ = client.write_all(refusal.as_bytes());
        }
    });
    let docker = TempDir::new().unwrap();
    let auths = format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"{}\"}}}}}}", ENCODED[0]);
    std::fs::write(docker.path().join("config.json"), auths).unwrap();
    let reference = format!("oci://{address}/a:1");
    let plain = ["--registry-plain-http", "127.0.0.1"];
    for args in [&["pull", &reference][..], &["serve", TCP, &reference, "--log-level", "trace"]] {
        let ended = run(plugsock().args(args).args(plain).env("DOCKER_CONFIG", docker.path()));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("does not accept the credentials"), "{ended:?}");
        says_no_password(args[0], &(ended.stdout + &ended.stderr));
    }
    // It was told.
    assert!(asked.try_iter().any(|head| head.contains(ENCODED[0])));
}
