//! What a guest prints is in the host's log, a line at a time, and can do nothing to a terminal.

mod targets;

use std::fs;

use crate::harness::{
    Host, cache_dir, children, for_each_strategy, plugin, plugsock, run, wait_until, written,
};

/// G15
#[test]
fn lines_of_a_guest_are_logged_with_its_request_and_escaped() {
    for_each_strategy(|strategy| {
        let mut host = Host::tcp("log_lines", &["--concurrency", strategy]);
        host.ask(b"");
        host.ask(b"");
        assert!(host.terminate().success());
        let lines = host.log.lines_with("request=2");
        for (line, (text, stream)) in lines.iter().zip([
            ("a line to stdout", "stdout"),
            ("a line to stderr", "stderr"),
            (r"\u{1b}[31mred\u{1b}[0m, bell \u{7}, return \r, null \u{0}", "stdout"),
            ("not UTF-8 follows:", "stdout"),
            ("\u{fffd}\u{fffd}", "stdout"),
            ("no line feed", "stdout"),
        ]) {
            assert!(
                line.contains(&format!("guest: {text} request=2 stream=\"{stream}\"")),
                "{text} in {line}"
            );
        }
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(!host.log.text().contains(|character: char| character.is_control() && character != '\n'));
    });
}

#[test]
fn guests_can_be_silenced() {
    let mut host = Host::tcp("log_lines", &["--log-level", "info,guest=off"]);
    host.ask(b"");
    assert!(host.terminate().success());
    assert_eq!(host.log.lines_with("guest"), [""; 0]);
}

/// Also those of processes that serve requests, and of what forks them, that have been there before.
#[test]
fn a_change_of_the_level_reaches_whoever_logs() {
    for_each_strategy(|strategy| {
        let args = ["--concurrency", strategy, "--log-level", "info,guest=off"];
        let mut host = Host::tcp("print_line", &args);
        let client = host.connect();
        match strategy {
            "forking" => wait_until(|| children(children(host.pid())[0]).len() == 1),
            _ => wait_until(|| host.status().servers[0].open == 1),
        }
        let print = |client: &crate::harness::Client, line: &[u8]| {
            client.send(line);
            assert_eq!(client.recv_all(), b"printed");
        };
        assert_eq!(host.ctl(&["log-level", "info"]).stdout, "logging info\n");
        print(&client, b"of one that was there\n");
        host.log.wait_for("guest: of one that was there");
        print(&host.connect(), b"of one that came later\n");
        host.log.wait_for("guest: of one that came later");
        assert_eq!(host.ctl(&["log-level", "warn"]).code, Some(0));
        print(&host.connect(), b"of one too many\n");
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("one too many"), [""; 0]);
    });
}

/// Whether a terminal shows it as what it is, and nothing in it passes for another line.
fn is_harmless(text: &str) -> bool {
    let is_harmful = |character: char| character.is_control() && character != '\n';
    !text.contains(is_harmful)
        && !text.lines().any(|line| line.contains("forged") && line.starts_with("2026-01"))
}

/// G15: those of its functions and modules, in the backtrace of a trap.
#[test]
fn the_names_in_a_component_are_escaped() {
    for_each_strategy(|strategy| {
        let args =
            ["tcp://127.0.0.1:0", &written("names"), "--log-level", "debug", "--concurrency", strategy];
        let mut host = Host::serve(&args);
        host.ask(b"");
        assert!(host.terminate().success());
        let line = host.log.wait_for("forged");
        assert!(line.contains(r"!function\u{1b}[31m\n2026-01-01T00:00:00.000000Z ERROR forged"), "{line}");
        assert!(line.contains(r"module\r\n\u{1b}]0;title\u{7}!"), "{line}");
        assert!(is_harmless(&host.log.text()), "{}", host.log.text());
    });
}

/// G15: what a module imports, wherever it is said that nobody has it.
#[test]
fn the_names_that_a_module_imports_are_escaped() {
    let module = written("preview1_import_names");
    for command in ["serve", "check", "call"] {
        let ended = run(plugsock().args([command, &module, "--cache-dir"]).arg(cache_dir()));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(r"hammer\n2026"), "{ended:?}");
        assert!(is_harmless(&ended.stderr) && ended.stderr.lines().count() == 1, "{ended:?}");
        assert!(is_harmless(&ended.stdout), "{ended:?}");
    }
    let host = Host::serve(&["tcp://127.0.0.1:0"]);
    let ended = host.ctl(&["swap", &module]);
    assert!(ended.stderr.contains(r"hammer\n2026") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(is_harmless(&ended.stderr) && is_harmless(&host.log.text()), "{ended:?}");
}

/// G15
#[test]
fn the_name_of_a_handlers_file_is_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a\n2026-01-01T00 ERROR forged\u{1b}[31m.wasm");
    fs::copy(plugin("echo"), &file).unwrap();
    let file = file.to_str().unwrap();
    let checked = run(plugsock().args(["check", file, "--cache-dir"]).arg(cache_dir()));
    assert!(checked.code == Some(0) && is_harmless(&checked.stdout), "{checked:?}");
    let mut host = Host::serve(&["tcp://127.0.0.1:0", file]);
    assert!(is_harmless(&host.ready[0]), "{:?}", host.ready);
    for args in [&["status"][..], &["versions"], &["swap", &plugin("upper")], &["rollback"]] {
        let ended = host.ctl(args);
        assert!(ended.code == Some(0) && is_harmless(&ended.stdout), "{ended:?}");
    }
    fs::write(file, "nonsense").unwrap();
    let ended = host.ctl(&["swap", file]);
    assert!(ended.code == Some(1) && is_harmless(&ended.stderr), "{ended:?}");
    fs::remove_file(file).unwrap();
    for command in ["serve", "check", "call", "verify"] {
        let key = (command == "verify")
            .then_some(["--public-key", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]);
        let ended = run(plugsock().args([command, file]).args(key.into_iter().flatten()));
        assert!(ended.code == Some(1) && is_harmless(&ended.stderr), "{ended:?}");
    }
    assert!(host.terminate().success());
    assert!(is_harmless(&host.log.text()), "{}", host.log.text());
}
