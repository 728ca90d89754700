//! `plugsock ctl`: what a server that runs says of itself, and how it is changed.

mod abuse;
mod drain;
mod finding;
mod refused;
mod swap;
mod top;

use std::path::Path;

use plugsock::control::{ServerState, VersionStatusState};

use crate::harness::{Ended, Host, guest, plugin, plugsock, run, wait_until};

const TCP: &str = "tcp://127.0.0.1:0";

/// The output of a command that does what it was asked to.
fn done(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr, "", "{ended:?}");
    ended.stdout
}

/// A command that is refused: exit code 1, and one line that has each of the words.
fn is_refused(ended: &Ended, words: &[&str]) {
    is_error(ended, 1, words);
}

fn is_error(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.stderr.starts_with("plugsock: error: "), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "no '{word}' in {ended:?}");
    }
}

#[test]
fn status_says_what_serves_where_and_how() {
    let (echo, upper) = (plugin("echo"), plugin("upper"));
    let args = [TCP, "udp://127.0.0.1:0", &echo, "unix://@plugsock-status", &upper, "--concurrency", "pool"];
    let host = Host::serve(&args);
    assert_eq!(host.ask(b"hello"), b"hello");
    // The answer is there before the request has ended.
    wait_until(|| host.status().slots[0].versions[0].open == 0);
    let status = host.status();
    assert_eq!(status.pid, host.pid().as_raw_pid() as u32);
    let servers: Vec<_> = status.servers.iter().collect();
    assert_eq!(servers.len(), 3);
    for (server, (address, server_type, slot)) in servers.iter().zip([
        (&host.addresses[0], "tcp", "echo"),
        (&host.addresses[1], "udp", "echo"),
        (&host.addresses[2], "unix", "upper"),
    ]) {
        assert_eq!(server.address, address.to_string());
        assert_eq!((&*server.server_type, &*server.slot), (server_type, slot));
        assert_eq!((&*server.concurrency, server.state, server.open), ("pool", ServerState::Accepting, 0));
    }
    let [echo, upper] = &status.slots[..] else { panic!("{status:?}") };
    assert_eq!((&*echo.name, &*upper.name), ("echo", "upper"));
    assert!(host.ready[0].contains(&echo.digest) && host.ready[2].contains(&upper.digest), "{status:?}");
    let version = &echo.versions[0];
    assert_eq!((version.generation, version.state), (1, VersionStatusState::Serving));
    assert_eq!((version.total, version.failed, version.cut), (1, 0, 0));
    assert!(version.latency_seconds.p50 > 0.0);
    let text = done(host.ctl(&["status"]));
    for part in [&host.addresses[0].to_string(), "pool", "accepting", "serving", &echo.digest[..19]] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let versions = done(host.ctl(&["versions", "upper"]));
    assert!(versions.contains("upper") && !versions.contains("echo"), "{versions}");
}

#[test]
fn failures_and_limits_are_counted_by_version() {
    let host = Host::tcp("loop_forever", &["--cpu-time", "50ms"]);
    assert_eq!(host.ask(b""), b"");
    done(host.ctl(&["swap", &guest("trap_in_handle")]));
    assert_eq!(host.ask(b""), b"setup\nhandle\n");
    host.log.wait_for("trapped");
    let status = host.status();
    let [trap, endless] = &status.slots[0].versions[..] else { panic!("{status:?}") };
    assert_eq!((trap.failed, trap.limits.len()), (1, 0));
    assert_eq!((endless.failed, endless.limits.get("cpu-time")), (1, Some(&1)));
    let text = done(host.ctl(&["status"]));
    assert!(text.contains("loop_forever 1 hit limits: cpu-time 1"), "{text}");
}

#[test]
fn clients_that_were_turned_away_are_counted() {
    let host = Host::serve(&["udp://127.0.0.1:0", "--max-packet-size", "10"]);
    let client = host.connect();
    client.send(b"more than ten");
    // Served after the other was dropped.
    client.send(b"hello");
    assert_eq!(client.recv_some(), b"hello");
    assert_eq!(host.status().servers[0].refused.too_large, 1);
    let text = done(host.ctl(&["status"]));
    assert!(text.contains(&format!("{} refused clients: too-large 1", host.address())), "{text}");
}

#[test]
fn the_log_level_can_be_changed() {
    for format in ["text", "json"] {
        let host = Host::serve(&[TCP, "--log-format", format, "--log-level", "error"]);
        assert_eq!(done(host.ctl(&["log-level", "plugsock=debug"])), "logging plugsock=debug\n");
        host.ask(b"hello");
        host.log.wait_for("served");
        assert_eq!(host.ctl(&["log-level", "a=b=c"]).code, Some(2));
    }
    let host = Host::serve(&[TCP]);
    // A slip of a finger does not silence the log.
    for (filter, word) in [("inof", "inof"), ("info,guest", "guest"), ("", ""), ("a b=off", "a b=off")] {
        let said = format!("'{word}' is no level; write off, error, warn, info, debug or trace");
        let mut serve = plugsock();
        serve.args(["serve", TCP]).env("PLUGSOCK_LOG", filter);
        for ended in [host.ctl(&["log-level", filter]), run(&mut serve)] {
            assert!(ended.code == Some(2) && ended.stderr.contains(&said), "{ended:?}");
        }
    }
    let too_long = format!("info,{}=debug", "x".repeat(2000));
    is_refused(&host.ctl(&["log-level", &too_long]), &["at most 1024 bytes"]);
}

#[test]
fn shutdown_ends_the_host_as_a_signal_does() {
    let mut host = Host::serve(&[TCP]);
    let client = host.connect();
    client.send(b"a");
    assert_eq!(client.recv_exact(1), b"a");
    assert_eq!(done(host.ctl(&["shutdown"])), "shutting down\n");
    host.log.wait_for("shutting down");
    // It waits for what is open, and says so.
    assert_eq!(host.status().servers[0].open, 1);
    assert_eq!(client.exchange(b"b"), b"b");
    assert_eq!(host.wait().code(), Some(0));
    assert!(!host.control_socket().exists());
}

/// Whatever `COLUMNS` says.
#[test]
fn tables_are_no_wider_than_the_terminal() {
    let host = Host::serve(&[TCP]);
    let show = |args: &[&str], columns: &str| {
        let mut command = plugsock();
        command.args(args).arg("--control").arg(host.control_socket()).env("COLUMNS", columns);
        done(run(&mut command))
    };
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    for args in [&["ctl", "status"][..], &["ctl", "versions"], &["top", "--once", "--interval", "100ms"]] {
        let whole = show(args, "1000");
        assert!(whole.contains("sha256:") && !whole.contains('…') && widest(&whole) > 90, "{whole}");
        for columns in [80, 100] {
            let fitted = show(args, &columns.to_string());
            assert_eq!(fitted.lines().count(), whole.lines().count(), "{fitted}");
            let table = fitted.lines().filter(|line| !line.starts_with("plugsock ")).collect::<Vec<_>>();
            assert!(widest(&table.join("\n")) <= columns, "{columns}: {fitted}");
            assert!(fitted.contains("GEN") && fitted.contains("serving"), "{columns}: {fitted}");
        }
    }
    assert!(show(&["ctl", "versions"], "20").contains('…'));
}

#[test]
fn every_answer_can_be_had_as_json() {
    let host = Host::serve(&[TCP]);
    let ask = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&done(host.ctl(args))).unwrap() };
    assert_eq!(ask(&["swap", &guest("v2"), "--json"])["generation"], 2);
    assert_eq!(ask(&["--json", "rollback"])["generation"], 3);
    assert_eq!(ask(&["swap", &guest("v2"), "--canary", "10%", "--json"])["is_changed"], true);
    assert_eq!(ask(&["abort", "--json"])["slot"], "echo");
    assert_eq!(ask(&["drain", "--json"])["servers"][0]["state"], "drained");
    assert!(ask(&["resume", "--json"])["done"].is_object());
    assert!(ask(&["log-level", "info", "--json"])["done"].is_object());
    assert!(ask(&["versions", "--json"])[0]["versions"].is_array());
    let socket = host.control_socket();
    let top = ["top", "--json", "--interval", "100ms", "--control", socket.to_str().unwrap()];
    let top: serde_json::Value = serde_json::from_str(&done(run(plugsock().args(top)))).unwrap();
    assert!(top["requests_per_second"].is_number() && top["rates"][0]["slot"] == "echo", "{top}");
}

/// `plugsock ctl status | head -0`
#[test]
fn whoever_has_read_enough_is_no_error() {
    let host = Host::serve(&[TCP]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = plugsock();
    let status = command.args(["ctl", "status", "--control"]).arg(host.control_socket()).stdout(writer);
    assert_eq!(status.status().unwrap().code(), Some(0));
}

#[test]
fn errors_name_what_would_help() {
    let host = Host::serve(&[TCP]);
    is_refused(&host.ctl(&["promote"]), &["no canary", "--canary"]);
    is_refused(&host.ctl(&["rollback"]), &["plugsock ctl swap"]);
    let other = format!("sha256:{}", "0".repeat(64));
    is_refused(&host.ctl(&["swap", &guest("v2"), "--digest", &other]), &[&other, "--digest"]);
    for control in ["/no/such/socket", "4194305"] {
        is_error(&host.ctl(&["status", "--control", control]), 3, &[control, "--control"]);
    }
    // Taken before the subcommand and after it.
    let socket = host.control_socket();
    let socket = socket.to_str().unwrap();
    done(host.ctl(&["--control", socket, "swap", &guest("v2")]));
    done(host.ctl(&["swap", &plugin("echo"), "--control", socket]));
}

#[test]
fn a_wrong_command_is_a_usage_error() {
    let host = Host::serve(&[TCP]);
    for args in [
        &["nonsense"][..],
        &[],
        &["swap"],
        &["swap", "a", "b", "c"],
        &["swap", "a", "--canary", "150%"],
        &["swap", "a", "--canary", "10"],
        &["drain", "--timeout", "10"],
        &["log-level"],
        &["status", "--control"],
    ] {
        let ended = host.ctl(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{args:?}: {ended:?}");
    }
    let help = done(host.ctl(&["--help"]));
    for part in ["Examples:\n  plugsock ctl status", "Exit status", "rollback", "log-level"] {
        assert!(help.contains(part), "no {part} in {help}");
    }
}

#[test]
fn a_slot_has_to_be_named_where_there_are_several() {
    let (echo, upper) = (plugin("echo"), plugin("upper"));
    let host = Host::serve(&[TCP, &echo, "udp://127.0.0.1:0", &upper]);
    let v2 = guest("v2");
    is_refused(&host.ctl(&["swap", &v2]), &["name a slot", "echo, upper"]);
    is_refused(&host.ctl(&["swap", "lower", &v2]), &["no slot 'lower'", "echo, upper"]);
    is_refused(&host.ctl(&["rollback"]), &["name a slot"]);
    is_refused(&host.ctl(&["versions", "lower"]), &["no slot 'lower'"]);
    done(host.ctl(&["swap", "echo", &v2]));
    assert_eq!(host.ask(b""), b"v2\n");
    assert_eq!(host.status().slots[1].versions.len(), 1);
}

#[test]
fn a_handler_may_be_named_from_where_the_client_is() {
    let host = Host::serve(&[TCP]);
    let v2 = guest("v2");
    let path = Path::new(&v2);
    let mut command = plugsock();
    command.arg("ctl").arg("--control").arg(host.control_socket());
    command.current_dir(path.parent().unwrap()).arg("swap").arg(path.file_name().unwrap());
    done(run(&mut command));
    assert_eq!(host.ask(b""), b"v2\n");
}
