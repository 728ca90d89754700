//! `plugsock new`, `build`, `dev`, `wit` and `componentize`: what they say when something is wrong, and what
//! they do where no compiler is needed. `languages.rs` has the rest.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::{Ended, Host, guest, is_installed, plugin, plugsock, run};

fn plugsock_in(folder: &Path, args: &[&str]) -> Ended {
    run(plugsock().current_dir(folder).args(args))
}

/// Refused with one line that contains all of `words`.
fn is_refused(folder: &Path, args: &[&str], code: i32, words: &[&str]) {
    let ended = plugsock_in(folder, args);
    assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{args:?}: no '{word}' in {}", ended.stderr);
    }
}

#[test]
fn a_project_is_refused_that_cannot_be() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    is_refused(here, &["new", "Über"], 1, &["Über", "lower-case"]);
    is_refused(here, &["new", "../a"], 1, &["lower-case"]);
    is_refused(here, &["new", "a", "--lang", "cobol"], 2, &["cobol", "assemblyscript"]);
    is_refused(here, &["new", "a", "--kind", "x"], 2, &["datagram"]);
    is_refused(
        here,
        &["new", "a", "--lang", "js", "--kind", "command"],
        1,
        &["command in js", "stream, datagram"],
    );
    assert_eq!(fs::read_dir(here).unwrap().count(), 0);
    assert_eq!(plugsock_in(here, &["new", "a", "--lang", "c"]).code, Some(0));
    is_refused(here, &["new", "a", "--lang", "c"], 1, &["a exists already"]);
}

#[test]
fn every_template_says_how_to_go_on() {
    let directory = TempDir::new().unwrap();
    for (number, language) in
        ["rust", "c", "zig", "assemblyscript", "go", "python", "js", "ts"].iter().enumerate()
    {
        for (kind, scheme) in [("stream", "tcp"), ("datagram", "udp")] {
            let name = format!("{kind}-{number}");
            let ended = plugsock_in(directory.path(), &["new", &name, "--lang", language, "--kind", kind]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let serve = format!("plugsock serve {scheme}://127.0.0.1:10001 build/handler.wasm");
            assert!(ended.stdout.contains(&serve), "{}", ended.stdout);
            let folder = directory.path().join(name);
            assert!(folder.join("test.sh").exists() && folder.join(".gitignore").exists());
            for entry in fs::read_dir(folder).unwrap() {
                let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
                assert!(!text.contains("\"NAME\"") && !text.contains("echo-"), "{text}");
            }
        }
    }
}

#[test]
fn a_build_says_what_is_missing() {
    let directory = TempDir::new().unwrap();
    is_refused(directory.path(), &["build"], 1, &["is no handler project", "plugsock new"]);
    let languages = [("rust", "cargo", "rustup"), ("c", "make", "package"), ("js", "npm", "Node.js")];
    for (language, program, remedy) in languages {
        plugsock_in(directory.path(), &["new", language, "--lang", language]);
        // No PATH has anything: this program's own folder is there always.
        let ended =
            run(plugsock().current_dir(directory.path()).args(["build", language]).env("PATH", "/nowhere"));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for word in [program, "is not installed, or not on the PATH", remedy] {
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
        }
    }
}

#[test]
fn the_contract_can_be_had() {
    let directory = TempDir::new().unwrap();
    let contract = plugsock_in(directory.path(), &["wit"]).stdout;
    assert!(contract.contains("package plugsock:handler@"), "{contract}");
    assert_eq!(plugsock_in(directory.path(), &["wit", "--out", "wit"]).code, Some(0));
    let folder = directory.path().join("wit");
    assert_eq!(fs::read_to_string(folder.join("handler.wit")).unwrap(), contract);
    assert!(folder.join("deps/io.wit").exists() && folder.join("deps/sockets.wit").exists());
}

#[test]
fn what_is_no_core_module_is_not_made_a_component() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("text"), "hello").unwrap();
    let echo = plugin("echo");
    let cases = [("nothing", "No such file"), ("text", "not WebAssembly"), (&echo, "a component already")];
    for (file, words) in cases {
        is_refused(directory.path(), &["componentize", file, "--out", "out"], 1, &[file, words]);
    }
}

/// A project whose compiler copies the component that its source names.
#[test]
fn an_edit_is_served_and_an_error_leaves_the_version_before() {
    if !is_installed("make") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    let edit = |component: &str| {
        // As editors do: beside it, and renamed.
        fs::write(file(".handler.c"), component).unwrap();
        fs::rename(file(".handler.c"), file("handler.c")).unwrap();
    };
    fs::write(file("Makefile"), "build/handler.wasm: handler.c\n\tmkdir -p build && cp $$(cat $<) $@\n")
        .unwrap();
    edit(&plugin("echo"));
    let mut command = plugsock();
    command.arg("dev").current_dir(directory.path()).env("CC", "cp");
    let host = Host::start(command, &["tcp://127.0.0.1:0"]);
    assert_eq!(host.ask(b"hello"), b"hello");

    edit(&guest("phases"));
    host.log.wait_for_count("swapped", 1);
    assert_eq!(host.ask(b"hello"), b"setup\nhandle\nfinish\n");

    edit("/nowhere.wasm");
    host.log.wait_for_count("the version before serves on", 1);
    assert!(!host.log.lines_with("/nowhere.wasm").is_empty());
    assert_eq!(host.ask(b"hello"), b"setup\nhandle\nfinish\n");

    edit(&plugin("echo"));
    host.log.wait_for_count("swapped", 2);
    assert_eq!(host.ask(b"hello"), b"hello");
}
