//! The command line: what is wrong is said in one line, and the exit code says whose turn it is.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::harness::{Ended, Host, cache_dir, cargo, guest, is_installed, plugin, plugsock, run, written};

const TCP: &str = "tcp://127.0.0.1:0";

fn serve(args: &[&str]) -> Ended {
    run(plugsock().arg("serve").args(args).arg("--cache-dir").arg(cache_dir()))
}

/// Refused with one line that contains all of `words`.
fn is_refused(args: &[&str], words: &[&str]) {
    let ended = serve(args);
    assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {}", ended.stderr);
    assert!(ended.stderr.starts_with("plugsock: error: "), "{args:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{args:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{args:?}: no '{word}' in {}", ended.stderr);
    }
}

/// The command line itself is wrong: exit code 2, and the first line contains `word`.
fn is_usage_error(args: &[&str], word: &str) {
    let ended = serve(args);
    assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
    let line = ended.stderr.lines().next().unwrap_or_default();
    assert!(line.starts_with("error: ") && ended.stderr.contains(word), "{args:?}: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{args:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{args:?}");
}

#[test]
fn sizes_and_times_that_are_none_are_refused_with_what_to_write() {
    let sizes = ["--memory", "--stack", "--cache-size", "--http-head-size", "--http-body-size"];
    let of_state = ["--state-key-size", "--state-value-size", "--state-size"];
    for option in sizes.into_iter().chain(of_state) {
        is_usage_error(&[&format!("{option}=lots")], "write a number and a unit, as in 512KiB or 64MiB");
    }
    let times = ["--shutdown-timeout", "--idle-timeout", "--tls-handshake-timeout", "--registry-timeout"];
    for option in times.into_iter().chain(["--state-time", "--fleet-wait"]) {
        is_usage_error(&[&format!("{option}=soon")], "write a number and a unit, as in 500ms, 30s or 5m");
    }
}

/// Both are bound, since none of them listens yet.
#[test]
fn an_address_that_is_named_twice_is_refused_by_its_name() {
    let reserved = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = format!("tcp://{}", reserved.local_addr().unwrap().as_socket().unwrap());
    is_refused(&[&address, &address], &["cannot serve", &address, "another server uses this address"]);
}

/// Where nobody reads what a command prints, it ends; where that cannot be written, it says so. Nowhere does it panic.
#[test]
fn what_a_command_prints_may_go_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let echo = plugin("echo");
    assert_eq!(run(plugsock().args(["keygen", "--no-password", &at("release")])).code, Some(0));
    fs::copy(&echo, at("echo.wasm")).unwrap();
    fs::write(at("plugsock.toml"), "[handler.echo]\n").unwrap();
    let signed = at("echo.wasm");
    let sign = ["sign", "--key", &at("release.key"), &signed];
    assert_eq!(run(plugsock().args(sign)).code, Some(0));
    let verify = ["verify", "--public-key", &at("release.pub"), &signed];
    let check = ["config", "check", &at("plugsock.toml")];
    let commands = [
        &["check", &echo][..],
        &["check", "--json", &echo],
        &["config", "schema"],
        &["config", "show"],
        &["config", "show", "--json"],
        &check,
        &sign,
        &verify,
        &["wit"],
        &["completions", "bash"],
        &["doctor", "--max-requests", "1"],
    ];
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let broken = || std::io::pipe().unwrap().1;
    for args in commands {
        let unread = plugsock().args(args).stdout(broken()).output().unwrap();
        assert_eq!(unread.status.code(), Some(0), "{args:?}: {unread:?}");
        let unwritten = plugsock().args(args).stdout(full()).output().unwrap();
        let error = String::from_utf8_lossy(&unwritten.stderr).into_owned();
        assert_eq!(unwritten.status.code(), Some(1), "{args:?}: {error}");
        assert!(
            error.contains("plugsock: error: cannot write") && !error.contains("panicked"),
            "{args:?}: {error}"
        );
        let silent = plugsock().args(args).stdout(full()).stderr(broken()).status().unwrap();
        assert_eq!(silent.code(), Some(1), "{args:?}");
    }
    let mut refused = plugsock();
    let not_there = refused.args(["call", "/no/such.wasm"]).stdin(std::process::Stdio::null());
    assert_eq!(not_there.stderr(broken()).status().unwrap().code(), Some(1));
}

/// As the README has it: of the programs of the workspace none is named.
#[test]
fn cargo_runs_the_host() {
    // Built by now, however long it takes.
    plugsock();
    let mut command = cargo("run");
    command.arg("--");
    let mut host = Host::serve_by(command, &[TCP]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(host.terminate().success());
}

#[test]
fn a_malformed_address_is_a_usage_error() {
    for (address, word) in [
        ("127.0.0.1:10001", "scheme"),
        ("http://127.0.0.1:0", "'http'"),
        ("tcp://127.0.0.1", "port"),
        ("tcp://127.0.0.1:http", "port"),
        ("tcp://127.0.0.1:65536", "port"),
        ("tcp://127.0.0.1:-1", "port"),
        ("tcp://::1:0", "brackets"),
        ("tcp://[::1:0", "brackets"),
        ("unix://relative", "absolute"),
        ("unixgram://", "names no socket"),
        (&format!("unix:///tmp/{}", "x".repeat(120)), "too long"),
    ] {
        is_usage_error(&[address], word);
    }
}

#[test]
fn a_wrong_option_is_a_usage_error() {
    for (args, word) in [
        (&["--concurrency", "magic"][..], "magic"),
        (&["--workers", "0"], "at least 1"),
        (&["--max-requests", "0"], "at least 1"),
        (&["--max-requests", "many"], "many"),
        (&["--memory", "much"], "much"),
        (&["--cpu-time", "10"], "unit"),
        (&["--request-time", "soon"], "soon"),
        (&["--env", "=x"], "NAME=VALUE"),
        (&["--env", "NAME"], "NAME=VALUE"),
        (&["--dir", "/tmp"], "HOST::GUEST"),
        (&["--dir", "::/x"], "HOST::GUEST"),
        (&["--mode", "999"], "octal"),
        (&["--log-format", "xml"], "xml"),
        (&["--log-level", "a=b=c"], "level"),
        (&["--max-packet-size", "70000"], "70000"),
        (&["--nonsense"], "--nonsense"),
        (&["a.wasm", "b.wasm"], "b.wasm has no address"),
        (&["a.wasm", "tcp://127.0.0.1:0", "b.wasm", "udp://127.0.0.1:0"], "udp://127.0.0.1:0 has no handler"),
    ] {
        is_usage_error(&[&[TCP], args].concat(), word);
    }
    assert_eq!(run(plugsock().arg("nonsense")).code, Some(2));
    assert_eq!(run(&mut plugsock()).code, Some(2));
}

#[test]
fn an_address_that_cannot_be_bound_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    is_refused(&[&format!("tcp://{}", taken.local_addr().unwrap())], &["another server uses this address"]);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    is_refused(&[&format!("udp://{}", taken.local_addr().unwrap())], &["another server uses this address"]);
    is_refused(&["tcp://no-such-host.invalid:0"], &["cannot resolve", "no-such-host.invalid"]);
    is_refused(&["tcp://192.0.2.1:0"], &["192.0.2.1", "no such address"]);
    is_refused(&["udp://224.0.0.1:0"], &["224.0.0.1", "multicast"]);
    is_refused(
        &["unix:///no/such/directory/socket"],
        &["/no/such/directory/socket", "directory does not exist"],
    );
    is_refused(&["unixgram:///no/such/directory/socket"], &["directory does not exist"]);
}

/// Root may use any port, so the command gives that up.
#[test]
fn a_privileged_port_is_refused() {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]);
    command.arg(plugsock().get_program()).args(["serve", "tcp://127.0.0.1:1", "--no-cache"]);
    if !is_installed("setpriv") {
        return;
    }
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("CAP_NET_BIND_SERVICE"), "{ended:?}");
}

/// The first thread that found no memory areas for its signals would end the host.
#[test]
fn more_threads_than_the_kernel_has_memory_areas_for_are_refused() {
    for strategy in ["pool", "async"] {
        let args = [TCP, "--concurrency", strategy, "--workers", "1000000000"];
        is_refused(
            &args,
            &["1000000003 threads may need", "sysctl -w vm.max_map_count=", "or lower --workers"],
        );
    }
}

/// A file may have any name.
#[test]
fn a_handler_may_have_a_name_that_is_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(OsStr::from_bytes(b"echo\xff: 1.wasm"));
    fs::copy(plugin("echo"), &file).unwrap();
    let mut command = plugsock();
    command.args(["serve", TCP]).arg(&file);
    let host = Host::start::<&str>(command, &[]);
    assert_eq!(host.ask(b"hello"), b"hello");
}

#[test]
fn a_file_that_is_no_handler_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let component = fs::read(guest("phases")).unwrap();
    let other_version = replaced(&component, b"request-handler@0.1.1", b"request-handler@0.9.0");
    let other_version =
        replaced(&other_version, b"plugsock:handler/types@0.1.1", b"plugsock:handler/types@0.9.0");
    let mut flipped = component.clone();
    flipped[component.len() / 2..].iter_mut().for_each(|byte| *byte = !*byte);
    for (handler, word) in [
        ("/no/such/handler.wasm".to_owned(), "No such file"),
        (directory.path().display().to_string(), "directory"),
        (file("empty", b""), "empty"),
        (file("text", b"#!/bin/sh\n"), "not WebAssembly"),
        (file("short", &component[..6]), "truncated"),
        (file("truncated", &component[..component.len() / 2]), "not a valid component"),
        (file("flipped", &flipped), "not a valid component"),
        (file("module", b"\0asm\x01\0\0\0"), "without `_start`"),
        (file("broken", b"\0asm\x01\0\0\0\x02\xff"), "not a valid module"),
        (file("nothing", b"\0asm\x0d\0\x01\0"), "neither plugsock:handler/request-handler@0.1.1"),
        (file("version", &other_version), "version 0.9.0"),
        (file("native", b"\x7fELF\x02\x01"), "precompiled"),
        (written("no_export"), "it exports greet"),
        (written("unknown_import"), "acme:tools/hammer"),
        (written("wrong_types"), "type"),
        (written("imports_http"), "wasi:http/types@0.2.6"),
        (written("imports_preview3"), "build for WASI 0.2"),
        (
            written("imports_others"),
            "does not have: fermyon:spin/variables@2.0.0 (of Spin), spin:postgres/postgres@3.0.0 (of Spin), \
             wasmcloud:bus/lattice@1.0.0 (of wasmCloud), wasi:blobstore/blobstore@0.2.0-draft (a proposal to WASI), \
             wasi:config/store@0.2.0-rc.1 (a proposal to WASI), \
             wasi:messaging/consumer@0.2.0-draft (a proposal to WASI), acme:tools/hammer@1.0.0; of WASI there are",
        ),
        (written("imports_more_of_sockets"), "wasi:sockets/tcp@0.2.6"),
        (written("imports_more_of_sockets"), "no sockets beyond"),
        (written("preview0"), "before preview 1"),
        (written("preview1_no_memory"), "exports no memory"),
        (written("preview1_reactor"), "nothing to run"),
        (written("preview1_unknown_call"), "sock_hammer"),
        (written("preview1_unknown_import"), "`hammer` from `env`"),
    ] {
        is_refused(&[TCP, &handler], &[handler.rsplit('/').next().unwrap(), word]);
        let checked = run(plugsock().args(["check", &handler]));
        assert_eq!(checked.code, Some(1), "{checked:?}");
        assert!(checked.stderr.contains(word) && checked.stderr.lines().count() == 1, "{checked:?}");
    }
}

/// All of `from` by `to`, which is as long.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

#[test]
fn a_grant_of_what_is_not_there_is_refused() {
    is_refused(&[TCP, "--dir", "/no/such/directory::/data"], &["/no/such/directory"]);
    is_refused(&[TCP, "--dir", &format!("{}::/data", guest("phases"))], &["phases.wasm"]);
}

#[test]
fn nothing_is_ready_when_one_of_several_addresses_cannot_be_bound() {
    is_refused(&[TCP, "unix:///no/such/directory/socket"], &["directory does not exist"]);
}

#[test]
fn check_says_what_a_handler_is() {
    let path = plugin("echo");
    let checked = run(plugsock().args(["check", &path]));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let size = format!("size     {} bytes", fs::metadata(&path).unwrap().len());
    let host = Host::serve(&[TCP, &path]);
    let digest = host.ready[0].split(' ').find(|word| word.starts_with("sha256:")).unwrap();
    for part in [&size, digest, "plugsock:handler/request-handler@0.1.1", "plugsock:handler/types@0.1.1"] {
        assert!(checked.stdout.contains(part), "no {part} in {}", checked.stdout);
    }
}

#[test]
fn check_answers_programs_in_json() {
    let checked = run(plugsock().args(["check", "--json", &plugin("echo")]));
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((checked.code, &report["can_be_served"]), (Some(0), &true.into()), "{checked:?}");
    assert!(report["digest"].as_str().unwrap().starts_with("sha256:"), "{report}");
    let checked = run(plugsock().args(["check", "--json", &written("unknown_import")]));
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((checked.code, &report["can_be_served"]), (Some(1), &false.into()), "{checked:?}");
    assert!(report["reason"].as_str().unwrap().contains("acme:tools/hammer"), "{report}");
}

#[test]
fn check_says_what_a_handler_is_made_of() {
    let checked = run(plugsock().args(["check", &written("anatomy")]));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let lines = [
        "memory   192 KiB, at most 512 KiB",
        "         64 KiB, no maximum",
        "         64 KiB, no maximum",
        "         128 KiB, no maximum",
        "stack    32 KiB",
        "         unknown",
        "         1 KiB",
        "         unknown",
        "table    5 elements, at most 7 elements",
        "unused   wasi:random/random@0.2.0 forgotten: imported, and never called",
        "imports  wasi:random/random@0.2.0",
    ];
    assert!(checked.stdout.contains(&lines.join("\n")), "{}", checked.stdout);

    // Of a program the file itself, without what the host adds to it.
    let checked = run(plugsock().args(["check", &written("preview1_nothing")]));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("\nmemory   64 KiB, no maximum\nstack    unknown\n"), "{checked:?}");
}

/// What the templates are linked by is what these are.
#[test]
fn plugins_have_small_stacks() {
    for name in ["echo", "upper", "smtp"] {
        let checked = run(plugsock().args(["check", &plugin(name)]));
        assert!(checked.stdout.contains("\nstack    32 KiB\n"), "{name}: {}", checked.stdout);
    }
}

#[test]
fn help_has_examples_and_version_a_version() {
    for args in [&["serve", "--help"][..], &["check", "--help"]] {
        let ended = run(plugsock().args(args));
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.contains("Examples:\n  plugsock "), "{}", ended.stdout);
    }
    let ended = run(plugsock().arg("--version"));
    assert_eq!((ended.code, &ended.stdout[..9]), (Some(0), "plugsock "));
}
