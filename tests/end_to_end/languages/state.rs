//! State beyond requests, in every language: the same lines to the same handlers, with the same answers.

use std::thread;

use super::load;
use crate::harness::{Client, Host, Project, sandbox};

#[test]
fn rust() {
    keeps_state("rust", ("state.rs", "src/lib.rs"));
}

#[test]
fn c() {
    keeps_state("c", ("state.c", "handler.c"));
}

#[test]
fn zig() {
    keeps_state("zig", ("state.zig", "handler.zig"));
}

#[test]
fn assemblyscript() {
    keeps_state("assemblyscript", ("state.as.ts", "handler.ts"));
}

#[test]
fn go() {
    keeps_state("go", ("state.go", "handler.go"));
}

#[test]
fn python() {
    keeps_state("python", ("state.py", "handler.py"));
}

#[test]
fn js() {
    keeps_state("js", ("state.js", "handler.js"));
}

#[test]
fn ts() {
    keeps_state("ts", ("state.ts", "handler.ts"));
}

/// What is asked, and what the answer is to be.
const DIALOGUE: &[(&str, &str)] = &[
    ("get a", "none"),
    ("has a", "false"),
    ("set a one", "set"),
    ("get a", "one"),
    ("has a", "true"),
    ("incr a 1", "other: the value is no whole number, so that nothing can be added to it"),
    ("del a", "deleted"),
    ("del a", "deleted"),
    ("get a", "none"),
    ("incr n 41", "41"),
    ("incr n 1", "42"),
    ("incr n -9000000000000000000", "-8999999999999999958"),
    ("incr n -1", "-8999999999999999959"),
    ("incr n 1", "-8999999999999999958"),
    ("incr n -900000000000000000", "other: the sum would be beyond what 64 bits hold"),
    ("get n", "-8999999999999999958"),
    ("incr new -1", "-1"),
    ("del new", "deleted"),
    ("cas c x y", "false"),
    ("cas c none x", "true"),
    ("cas c none z", "false"),
    ("cas c x y", "true"),
    ("get c", "y"),
    ("list ", "c n"),
    // The longest that a value may be, and one byte more.
    ("repeat long 1048576", "set"),
    ("length long", "1048576"),
    ("cas long v w", "false"),
    // More than two pages.
    ("fill 2500", "filled"),
    ("count", "2503"),
    ("count fill:", "2500"),
    (
        "list fill:249",
        "fill:249 fill:2490 fill:2491 fill:2492 fill:2493 fill:2494 fill:2495 fill:2496 fill:2497 fill:2498 fill:2499",
    ),
    ("list nobody:", ""),
    ("open nobody", "no-such-store"),
    // The one that was open still is.
    ("get c", "y"),
    ("open read", "opened"),
    ("get c", "none"),
    ("set c z", "access-denied"),
    ("del c", "access-denied"),
    ("incr c 1", "access-denied"),
    ("cas c none z", "access-denied"),
    ("open counts", "opened"),
    ("get c", "y"),
];

fn keeps_state(language: &'static str, source: (&'static str, &'static str)) {
    let project = |source| Project { language, kind: "stream", source };
    let keeper = project(Some(source));
    // Compiled in this process: into the cache, from which the hosts take it at once.
    let Some(_) = load(keeper) else { return };
    let component = keeper.build().unwrap();
    let imports = |component| {
        let imports = sandbox().inspect(component).unwrap().imports;
        imports.iter().any(|import| import.name.starts_with("wasi:keyvalue/"))
    };
    assert!(!imports(project(None).build().unwrap()), "who keeps no state imports it");
    assert!(imports(component.clone()));
    let component = component.display().to_string();
    for strategy in ["threading", "async", "forking"] {
        let states = ["--state", "counts=memory", "--state", "read:ro=memory"];
        let args = ["tcp://127.0.0.1:0", &component, "--concurrency", strategy];
        let host = Host::serve(&[&args[..], &states].concat());
        answers_as_expected(&host);
        loses_no_swap(&host);
    }
}

fn answers_as_expected(host: &Host) {
    let lines: String = DIALOGUE.iter().map(|(line, _)| format!("{line}\n")).collect();
    let said = String::from_utf8(host.ask(lines.as_bytes())).unwrap();
    let answers: Vec<&str> = said.lines().collect();
    for ((line, expected), answer) in DIALOGUE.iter().zip(&answers) {
        assert_eq!(answer, expected, "{line}");
    }
    assert_eq!(answers.len(), DIALOGUE.len(), "{said}");
    // Of another request, and too much of it.
    let said = String::from_utf8(host.ask(b"get c\nrepeat longer 1048577\n")).unwrap();
    assert!(said.starts_with("y\nother: ") && said.contains("1048576"), "{said}");
}

/// Each adds by compare-and-swap, and has to look again when another comes between.
fn loses_no_swap(host: &Host) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let said = Client::ask(host.address(), "add sum\n".repeat(25).as_bytes());
                assert_eq!(String::from_utf8(said).unwrap(), "added\n".repeat(25));
            });
        }
    });
    assert_eq!(host.ask(b"get sum\n"), b"100\n");
}
