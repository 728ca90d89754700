//! Programs for WASI preview 1 as their compilers made them: whatever they think of their memory, and with the
//! connection as descriptors that one may have not block.

use plugsock::{Limits, Sandbox, SandboxOptions, ServerOptions, ServerType};

use crate::harness::{Case, Client, Host, Project, Running, for_each_strategy, pattern, sandbox_options};

fn go(kind: &'static str, source: &'static str) -> Option<String> {
    let project = Project { language: "go", kind, source: Some((source, "handler.go")) };
    project.build().map(|path| path.display().to_string())
}

/// No page of a guest's memory is anybody's but its own: an allocator that takes it for contiguous is right. That
/// holds for programs, and for handlers of the contract.
#[test]
fn what_keeps_all_of_its_input_gives_it_back() {
    for (kind, source) in [("command", "hoard.go"), ("stream", "hoard_handler.go")] {
        let Some(program) = go(kind, source) else { return };
        let limits = Limits { memory: 1 << 30, cpu_time: None, ..Limits::default() };
        let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
        let handler = sandbox.load(program).unwrap();
        for_each_strategy(|strategy| {
            let case = Case { server_type: ServerType::Tcp, strategy };
            let server = Running::start_with(case, handler.clone(), ServerOptions::default());
            for length in [0, 1, 1 << 20, 20 << 20, 60 << 20] {
                let data = pattern(length);
                assert!(server.ask(&data) == data, "{length} bytes came back otherwise, {source} {strategy}");
            }
        });
    }
}

#[test]
fn a_program_goes_on_while_its_client_is_silent_if_it_says_so() {
    let Some(program) = go("command", "ticks.go") else { return };
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", &program, "--concurrency", strategy]);
        let client = host.connect();
        let ticks = "tick 1\ntick 2\ntick 3\n";
        assert_eq!(client.recv_exact(ticks.len()), ticks.as_bytes());
        client.send(b"hello, ");
        client.send(b"world");
        client.half_close();
        let rest = String::from_utf8(client.recv_all()).unwrap();
        assert!(rest.ends_with("\"hello, world\" <nil>\n"), "{rest}");
    });
}

/// The same limit ends what waits without blocking.
#[test]
fn a_client_that_stays_silent_ends_a_program_that_does_not_block() {
    let Some(program) = go("command", "ticks.go") else { return };
    for_each_strategy(|strategy| {
        let host = Host::serve(&[
            "tcp://127.0.0.1:0",
            &program,
            "--request-time",
            "500ms",
            "--concurrency",
            strategy,
        ]);
        let client: Client = host.connect();
        assert!(client.recv_all().starts_with(b"tick 1\n"));
        host.log.wait_for("time limit of 500ms reached");
    });
}
