//! Proposals to WebAssembly that compilers use: those that are offered, those that are refused in words, and what a
//! guest may take by them.

use plugsock::{Cause, Limit, ServerOptions, ServerType};

use crate::harness::{Case, Host, Recorder, Running, for_each_strategy, plugsock, run, sandbox, written};

const OFFERED: [&str; 8] = [
    "uses_exceptions",
    "uses_collected_types",
    "uses_tail_calls",
    "uses_relaxed_simd",
    "uses_wide_arithmetic",
    "uses_memories",
    "uses_memory64",
    "calls_deep",
];

fn start(program: &str, strategy: &'static str) -> (Running, Recorder) {
    let recorder = Recorder::default();
    let options = ServerOptions { hooks: std::sync::Arc::new(recorder.clone()), ..ServerOptions::default() };
    let handler = sandbox().load(written(program)).unwrap();
    (Running::start_with(Case { server_type: ServerType::Tcp, strategy }, handler, options), recorder)
}

#[test]
fn what_compilers_use_is_served() {
    for program in OFFERED {
        for_each_strategy(|strategy| {
            let (server, recorder) = start(program, strategy);
            let answer = if program == "calls_deep" { "\u{1}" } else { "ok\n" };
            for _ in 0..3 {
                assert_eq!(server.ask(b"\x01"), answer.as_bytes(), "{program} {strategy}");
            }
            assert!(recorder.failures_when_closed(3).is_empty());
        });
    }
}

#[test]
fn what_is_not_offered_is_refused_by_its_name_and_place_and_with_what_to_do() {
    for (program, words) in [
        ("uses_threads", ["threads", "without -pthread"]),
        ("uses_legacy_exceptions", ["legacy exception handling", "-wasm-use-legacy-eh=false"]),
        ("uses_stack_switching", ["stack switching", "without continuations"]),
        ("uses_custom_page_sizes", ["custom page sizes", "without --page-size"]),
        ("huge_memory", ["memory", "268435456"]),
        ("huge_table", ["table", "100000"]),
        ("run_with_seventeen_memories", ["it has 17 memories, and may have 16", "raise --memories"]),
    ] {
        let checked = run(plugsock().args(["check", &written(program)]));
        assert_eq!(checked.code, Some(1), "{program}: {checked:?}");
        assert!(words.iter().all(|word| checked.stderr.contains(word)), "{program}: {}", checked.stderr);
        assert_eq!(checked.stderr.trim_end().lines().count(), 1, "{}", checked.stderr);
        let has_place = checked.stderr.contains(" at offset 0x");
        assert_eq!(has_place, program.starts_with("uses_"), "{program}: {}", checked.stderr);
    }
}

#[test]
fn what_cannot_be_served_does_not_replace_what_is() {
    let host = Host::serve(&["tcp://127.0.0.1:0", &written("uses_exceptions")]);
    for program in ["uses_threads", "uses_legacy_exceptions", "huge_memory", "huge_table"] {
        let swapped = host.ctl(&["swap", &written(program)]);
        assert_ne!(swapped.code, Some(0), "{program}");
        assert_eq!(host.ask(b""), b"ok\n");
    }
}

#[test]
fn a_start_function_that_loops_is_stopped() {
    let checked = run(plugsock().args(["check", &written("loops_at_start"), "--request-time", "200ms"]));
    assert_eq!(checked.code, Some(1));
    assert!(checked.stderr.contains("time limit of 200ms reached"), "{}", checked.stderr);
}

/// What is collected counts as memory, and its end is the request's alone.
#[test]
fn who_keeps_more_than_it_may_of_what_is_collected_ends_its_request_alone() {
    for_each_strategy(|strategy| {
        let (server, recorder) = start("keeps_collected_types", strategy);
        for _ in 0..3 {
            assert_eq!(server.ask(b""), b"");
        }
        let failures = recorder.failures_when_closed(3);
        let is_memory = |cause: &Cause| matches!(cause, Cause::Limit(Limit::Memory(268_435_456)));
        assert!(
            failures.len() == 3 && failures.iter().all(|failure| is_memory(&failure.cause)),
            "{failures:?}"
        );
    });
}

#[test]
fn components_of_several_others_are_served() {
    for program in [
        "run_with_three_memories",
        "run_with_sixteen_memories",
        "run_with_two_wasis",
        "run_drops_parents_first",
    ] {
        for_each_strategy(|strategy| {
            let (server, recorder) = start(program, strategy);
            let clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
            assert!(clients.into_iter().all(|client| client.is_closed()), "{program}");
            assert!(recorder.failures_when_closed(4).is_empty(), "{program}");
        });
    }
    let program = written("run_with_three_memories");
    let checked = run(plugsock().args(["check", &program, "--memories", "2"]));
    assert!(checked.stderr.contains("it has 3 memories, and may have 2"), "{}", checked.stderr);
}

/// Together they may have no more than one would.
#[test]
fn all_memories_share_one_limit() {
    let program = written("run_with_sixteen_memories");
    for (memory, code) in [("1MiB", 0), ("1048575B", 1)] {
        let checked = run(plugsock().args(["check", &program, "--memory", memory]));
        assert_eq!(checked.code, Some(code), "{checked:?}");
        assert!(code == 0 || checked.stderr.contains("memory limit of 1048575 bytes reached"), "{checked:?}");
    }
}

#[test]
fn the_stack_is_as_deep_as_the_operator_says() {
    for_each_strategy(|strategy| {
        for (stack, depth, is_enough) in [
            ("512KiB", 1, true),
            ("512KiB", 200, false),
            ("64KiB", 10, false),
            ("64MiB", 200, true),
            ("1GiB", 255, true),
        ] {
            let program = written("calls_deep");
            let host =
                Host::serve(&["tcp://127.0.0.1:0", &program, "--stack", stack, "--concurrency", strategy]);
            for _ in 0..2 {
                let expected: &[u8] = if is_enough { &[depth] } else { &[] };
                assert_eq!(host.ask(&[depth]), expected, "{depth} with {stack}, {strategy}");
            }
            if !is_enough {
                let line = host.log.wait_for("handler stopped: stack limit of ");
                assert!(line.contains("phase=handle"), "{line}");
            }
        }
    });
    let refused = run(plugsock().args(["check", "x.wasm", "--stack", "2GiB"]));
    assert!(refused.stderr.contains("it must be 64KiB to 1GiB"), "{}", refused.stderr);
}
