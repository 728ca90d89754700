//! A reload applies what has changed while all goes on, as a whole or not at all.

use plugsock::{ServeAddress, control::ServerStatus};
use rustix::process::Signal;

use super::{Configured, TCP, answer};
use crate::harness::{Client, Clients, Counted, Deployed, Ended, Host, Load, guest, versioned, wait_until};

/// Has the host reload; what it says has changed.
fn reload(host: &Host) -> String {
    let ended = host.ctl(&["reload"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout
}

/// Nothing is changed, for this reason.
fn is_refused(host: &Host, words: &[&str]) {
    let Ended { code, stdout, stderr } = host.ctl(&["reload"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    for word in [&["all is as it was"], words].concat() {
        assert!(stderr.contains(word), "no '{word}' in {stderr}");
    }
    host.log.wait_for("not reloaded, all is as it was");
}

fn servers(host: &Host) -> Vec<ServerStatus> {
    host.status().servers
}

fn address_of(host: &Host, number: usize) -> ServeAddress {
    servers(host)[number].address.parse().unwrap()
}

const FIRST: &str = "[[server]]\naddress = \"tcp://127.0.0.1:0\"\n";

#[test]
fn nothing_new_changes_nothing() {
    let configured = Configured::new(FIRST);
    let host = configured.serve(1, &[]);
    assert_eq!(reload(&host), "nothing has changed\n");
    host.signal(Signal::HUP);
    host.log.wait_for_count("reloaded: nothing has changed", 2);
    assert_eq!(servers(&host)[0].address, host.address().to_string());
}

#[test]
fn servers_come_and_go() {
    let configured = Configured::new(FIRST);
    let host = configured.serve(1, &[]);
    let open = host.greeted();
    let socket = configured.directory().join("socket").display().to_string();
    configured.write(&format!("{FIRST}[[server]]\naddress = \"unix://{socket}\"\nconcurrency = \"pool\"\n"));
    assert_eq!(reload(&host), format!("unix://{socket} is new\n"));
    let unix: ServeAddress = format!("unix://{socket}").parse().unwrap();
    assert_eq!(Client::ask(&unix, b"hello"), b"hello");
    let stays = Client::greeted(&unix);
    configured.write(FIRST);
    assert_eq!(reload(&host), format!("unix://{socket} is gone\n"));
    // What is open goes on, and nobody comes any more.
    assert_eq!(stays.exchange(b"on"), b"on");
    wait_until(|| !std::path::Path::new(&socket).exists());
    assert_eq!(servers(&host).len(), 1);
    assert_eq!(open.exchange(b"on"), b"on");
}

/// Another server takes the socket over; who is open goes on with the one before.
#[test]
fn a_server_becomes_another() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let text = |strategy: &str| {
        format!(
            "[[server]]\naddress = [\"{TCP}\", \"unix://{}\"]\nconcurrency = \"{strategy}\"\n",
            socket.display()
        )
    };
    let configured = Configured::new(&text("threading"));
    let mut host = configured.serve(2, &[]);
    let open = host.greeted();
    for strategy in ["pool", "forking", "async", "threading"] {
        configured.write(&text(strategy));
        let said = reload(&host);
        assert_eq!(said.matches("has another concurrency").count(), 2, "{said}");
        assert_eq!(servers(&host).iter().filter(|server| server.concurrency == strategy).count(), 2);
        for address in &host.addresses {
            assert_eq!(Client::ask(address, b"hello"), b"hello");
        }
    }
    assert_eq!(open.exchange(b"on"), b"on");
    assert!(host.terminate().success());
    assert!(!socket.exists());
}

#[test]
fn rules_for_clients_hold_at_once() {
    let configured = Configured::new(&format!("{FIRST}max-connections-per-ip = 9\n"));
    let host = configured.serve(1, &[]);
    let open = host.greeted();
    configured.write(&format!("{FIRST}max-connections-per-ip = 9\ndeny = [\"127.0.0.0/8\"]\n"));
    assert!(reload(&host).contains("has another deny"));
    assert!(host.connect().is_closed());
    open.send(b"on");
    assert_eq!(open.recv_exact(2), b"on");
    configured.write(&format!("{FIRST}max-connections-per-ip = 2\n"));
    assert!(reload(&host).contains("deny"));
    // Who was there before counts.
    let second = host.greeted();
    assert!(host.connect().is_closed());
    assert_eq!(second.exchange(b"on"), b"on");
    configured.write(FIRST);
    reload(&host);
    assert_eq!(host.ask(b"hello"), b"hello");
}

#[test]
fn handlers_come_go_and_change() {
    let handler = guest("env_and_args");
    let text = |colour: &str, more: &str| {
        format!(
            "[[server]]\naddress = \"{TCP}\"\nhandler = \"one\"\n[handler.one]\nfile = \"{handler}\"\nenv = [\"COLOUR={colour}\"]\n{more}"
        )
    };
    let configured = Configured::new(&text("red", ""));
    let host = configured.serve(1, &[]);
    assert!(answer(&host, 0).ends_with("COLOUR=red\n"));
    configured.write(&text("blue", "[handler.two]\n"));
    assert_eq!(reload(&host), "handler two is new\nhandler one has another env\n");
    assert!(answer(&host, 0).ends_with("COLOUR=blue\n"));
    let versions = &host.status().slots[0].versions;
    assert_eq!(versions.iter().map(|version| version.generation).collect::<Vec<_>>(), [2, 1]);
    // Another handler, by its name.
    configured.write(&text("blue", "[handler.two]\n").replace("handler = \"one\"", "handler = \"two\""));
    assert!(reload(&host).contains("has another handler"));
    assert_eq!(host.ask(b"hello"), b"hello");
    configured.write(&text("blue", ""));
    let said = reload(&host);
    assert!(said.contains("handler two is gone") && said.contains("has another handler"), "{said}");
    assert!(answer(&host, 0).ends_with("COLOUR=blue\n"));
}

#[test]
fn limits_change_for_new_requests() {
    let handler = guest("memory_bomb");
    let text = |memory: &str| {
        format!("[[server]]\naddress = \"{TCP}\"\n[handler.a]\nfile = \"{handler}\"\nmemory = \"{memory}\"\n[handler.b]\nmemory = \"64MiB\"\n")
            .replace("[handler.a]", "handler = \"a\"\n[handler.a]")
    };
    let configured = Configured::new(&text("8MiB"));
    let host = configured.serve(1, &[]);
    let mib = || answer(&host, 0).trim_end_matches(" MiB\n").parse::<u32>().unwrap();
    assert!((4..8).contains(&mib()));
    configured.write(&text("32MiB"));
    assert_eq!(reload(&host), "handler a has another memory\n");
    assert!((16..32).contains(&mib()));
    // Beyond what the engine was started with room for.
    configured.write(&text("1GiB"));
    is_refused(&host, &["handler a", "--memory", "start anew"]);
    assert!((16..32).contains(&mib()));
}

#[test]
fn what_is_wrong_changes_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deployed = Deployed::new(&versioned("one"));
    let text = |more: &str| {
        format!("[log]\nlog-level = \"info\"\n{FIRST}{more}[handler.a]\nfile = \"{}\"\n", deployed.path())
    };
    let configured = Configured::new(&text(""));
    let host = configured.serve(1, &[]);
    let serves = |name: &str| assert_eq!(host.ask(b"who?\n"), format!("{name} who?\n").as_bytes());
    serves("one");
    // All of these have another version to offer, too.
    deployed.replace(&versioned("two"));
    configured.write(&text("memroy = 1\n"));
    is_refused(&host, &["plugsock.toml:5:1", "unknown key 'memroy'"]);
    let second = format!("[[server]]\naddress = \"tcp://{}\"\n", taken.local_addr().unwrap());
    configured.write(&text(&second));
    is_refused(&host, &["another server uses this address"]);
    configured.write(
        &(text("") + "[handler.b]\nfile = \"none.wasm\"\n").replace("0\"\n", "0\"\nhandler = \"a\"\n"),
    );
    is_refused(&host, &["plugsock.toml:8:10: handler b: ", "none.wasm"]);
    configured.write(&format!("{}[cache]\ncache-size = \"1GiB\"\n[limits]\nstack = \"1MiB\"\n", text("")));
    is_refused(&host, &["it takes a restart to change stack, cache-size"]);
    configured.write(&text("reuse-port = true\n"));
    is_refused(&host, &["it takes a restart to change reuse-port of tcp://127.0.0.1:"]);
    let port = host.address().to_string().rsplit_once(':').unwrap().1.to_owned();
    configured.write(&text("").replace("127.0.0.1:0", &format!("0.0.0.0:{port}")));
    let moved =
        format!("it takes a restart to serve tcp://0.0.0.0:{port} in the place of {}", host.address());
    is_refused(&host, &["plugsock.toml:3:1: ", &moved]);
    serves("one");
    assert_eq!(address_of(&host, 0), *host.address());
    // And then all of it.
    configured.write(&text("max-connections = 9\n").replace("info", "debug"));
    let said = reload(&host);
    for word in ["handler a is another", "what is logged is debug", "has another max-connections"] {
        assert!(said.contains(word), "no '{word}' in {said}");
    }
    serves("two");
}

#[test]
fn a_watched_configuration_is_loaded_when_it_changes() {
    let text = |colour: &str| {
        format!(
            "[swapping]\nwatch = true\n[grants]\nenv = [\"COLOUR={colour}\"]\n{FIRST}[handler.a]\nfile = \"{}\"\n",
            guest("env_and_args")
        )
    };
    let configured = Configured::new(&text("red"));
    let host = configured.serve(1, &[]);
    configured.write(&text("blue"));
    host.log.wait_for("reloaded: handler a has another env");
    assert!(answer(&host, 0).ends_with("COLOUR=blue\n"));
    configured.write("nonsense");
    host.log.wait_for("not TOML");
    configured.write(&text("green"));
    host.log.wait_for_count("reloaded: handler a has another env", 2);
    assert!(answer(&host, 0).ends_with("COLOUR=green\n"));
}

/// Without a configuration the files are loaded again.
#[test]
fn without_a_configuration() {
    let deployed = Deployed::new(&versioned("one"));
    let host = Host::serve(&[TCP, &deployed.path()]);
    assert_eq!(reload(&host), "nothing has changed\n");
    deployed.replace(&versioned("two"));
    assert_eq!(reload(&host), "handler handler is another\n");
    assert_eq!(host.ask(b"who?\n"), b"two who?\n");
}

/// A hundred times all that a reload can change, and what it may not, while clients ask all the time.
#[test]
fn a_hundred_reloads_lose_nothing() {
    const RELOADS: usize = 100;
    let deployed = ["one", "two"].map(|name| Deployed::new(&versioned(name)));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let text = |number: usize| {
        let file = deployed[number % 2].path();
        let strategy = ["threading", "pool", "async", "forking"][number / 2 % 4];
        let connections = 100 + number;
        let memory = 16 + number % 3;
        let extra = match number % 3 {
            0 => format!("[[server]]\naddress = \"unix://{}\"\nhandler = \"a\"\n", path("extra")),
            _ => String::new(),
        };
        format!(
            "[limits]\nmemory = \"64MiB\"\n[[server]]\naddress = [\"{TCP}\", \"unix://{}\"]\nhandler = \"a\"\n\
             concurrency = \"{strategy}\"\nworkers = 8\n\
             [[server]]\naddress = [\"udp://127.0.0.1:0\", \"unixgram://{}\"]\nhandler = \"a\"\n\
             max-connections = {connections}\n{extra}[handler.a]\nfile = \"{file}\"\nmemory = \"{memory}MiB\"\n[handler.b]\n",
            path("stream"),
            path("datagram")
        )
    };
    let configured = Configured::new(&text(1));
    let mut host = configured.serve(4, &[]);
    let mut load = Load::start(&host.addresses, &Clients { short: 2, long: 1, staying: 1 });
    for number in 2..RELOADS + 2 {
        load.wait_for(load.requests() + 10);
        if number % 10 == 0 {
            configured.write("[limits]\nmemroy = 1\n");
            is_refused(&host, &["memroy"]);
        }
        configured.write(&text(number));
        let said = reload(&host);
        assert!(said.contains("handler a has another memory"), "{said}");
        let name = ["one", "two"][number % 2];
        for address in &host.addresses {
            assert_eq!(
                Client::ask(address, b"who?\n"),
                format!("{name} who?\n").as_bytes(),
                "after {number}"
            );
        }
    }
    let Counted { requests, failed, mixed, failures, .. } = load.finish();
    assert_eq!((failed, mixed), (0, 0), "of {requests}: {failures}");
    assert!(requests >= 10 * RELOADS as u64);
    assert!(host.terminate().success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files are left");
}
