//! Ordinary programs as handlers: components that export `wasi:cli/run`, and core modules for WASI preview 1.

use std::sync::Arc;
use std::thread;

use plugsock::{Cause, Handler, Limits, RequestError, Sandbox, SandboxOptions, ServerOptions, ServerType};

use crate::harness::{
    Case, Client, Host, Recorder, Running, for_each_case, for_each_strategy, guest, handler, pattern,
    plugsock, program, run, sandbox, sandbox_options, written,
};

/// The same program twice: for WASI 0.2, and for preview 1.
fn cats() -> [Handler; 2] {
    [handler("command_cat"), preview1("cat")]
}

fn preview1(name: &str) -> Handler {
    sandbox().load(written(&format!("preview1_{name}"))).unwrap()
}

/// A server, and what becomes of its requests.
fn start(case: Case, handler: Handler) -> (Running, Recorder) {
    let recorder = Recorder::default();
    let mut options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
    options.socket.max_packet_size = 20_000;
    (Running::start_with(case, handler, options), recorder)
}

fn streams(scenario: impl Fn(Case)) {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| scenario(Case { server_type, strategy }));
    }
}

#[test]
fn standard_input_and_output_are_the_connection_or_the_packet_and_its_reply() {
    for_each_case(|case| {
        for cat in cats() {
            let (server, recorder) = start(case, cat);
            let much = if case.server_type.is_datagram() { 20_000 } else { 1 << 20 };
            for length in [1, 10_000, much] {
                let data = pattern(length);
                assert!(server.ask(&data) == data, "{length} bytes came back otherwise");
            }
            assert!(recorder.failures_when_closed(3).is_empty());
        }
    });
}

#[test]
fn clients_at_the_same_time_each_get_their_own_back() {
    for_each_case(|case| {
        for cat in cats() {
            let (server, _) = start(case, cat);
            thread::scope(|scope| {
                for number in 0..20 {
                    let (server, data) = (&server, pattern(1000 + number));
                    scope.spawn(move || assert!(server.ask(&data) == data, "client {number}"));
                }
            });
        }
    });
}

/// Nothing waits for a full buffer or the end of the input, in either direction.
#[test]
fn a_dialogue_goes_to_and_fro() {
    streams(|case| {
        for cat in cats() {
            let (server, _) = start(case, cat);
            let client = server.connect();
            for number in 0..5 {
                client.send(&[number; 3]);
                assert_eq!(client.recv_exact(3), [number; 3]);
            }
            assert_eq!(client.exchange(b"end"), b"end");
        }
        let (server, _) = start(case, handler("command_dialogue"));
        let client = server.connect();
        assert_eq!(client.recv_exact(6), b"name? ");
        client.send(b"Ada\n");
        assert_eq!(client.recv_exact(6), b"home? ");
        client.send(b"London\n");
        assert_eq!(client.recv_all(), b"bye\n");
    });
}

#[test]
fn standard_error_is_the_log() {
    for_each_strategy(|strategy| {
        let mut host = Host::tcp("command_dialogue", &["--concurrency", strategy]);
        host.ask(b"Ada\nLondon\n");
        let line = host.log.wait_for("heard Ada");
        assert!(line.contains("request=1 ") && line.contains("guest"), "{line}");
        assert!(host.terminate().success());
    });
}

#[test]
fn a_program_that_writes_nothing_sends_no_datagram() {
    for server_type in [ServerType::Udp, ServerType::UnixDatagram] {
        for_each_strategy(|strategy| {
            let (server, recorder) = start(Case { server_type, strategy }, preview1("nothing"));
            let client = server.connect();
            client.send(b"hello");
            assert!(recorder.failures_when_closed(1).is_empty());
            assert!(client.has_nothing());
        });
    }
}

#[test]
fn it_learns_whom_it_serves_from_the_variables_of_ucspi() {
    for_each_case(|case| {
        let (server, _) = start(case, handler("command_environment"));
        let client = server.connect();
        let (local, remote) = (client.socket.local_addr().unwrap(), client.socket.peer_addr().unwrap());
        client.send(b"");
        client.half_close();
        let answer = String::from_utf8(client.recv_all()).unwrap();
        // What is the client's own address is the remote one of the program.
        let inet = |protocol: &str| {
            let (client, server) = (local.as_socket().unwrap(), remote.as_socket().unwrap());
            [
                format!("PROTO={protocol}"),
                format!("{protocol}LOCALIP={}", server.ip()),
                format!("{protocol}LOCALPORT={}", server.port()),
                format!("{protocol}REMOTEIP={}", client.ip()),
                format!("{protocol}REMOTEPORT={}", client.port()),
            ]
        };
        let variables = match case.server_type {
            ServerType::Tcp => inet("TCP"),
            ServerType::Udp => inet("UDP"),
            ServerType::UnixStream | ServerType::UnixDatagram => [
                "PROTO=UNIX".to_owned(),
                format!("UNIXLOCALPATH={}", remote.as_pathname().unwrap().display()),
                format!("UNIXREMOTEEGID={}", rustix::process::getegid().as_raw()),
                format!("UNIXREMOTEEUID={}", rustix::process::geteuid().as_raw()),
                format!("UNIXREMOTEPID={}", std::process::id()),
            ],
        };
        assert_eq!(answer, format!("command_environment.wasm\n{}\n", variables.join("\n")));
    });
}

/// The wildcard address is no address that a client can have reached.
#[test]
fn the_local_address_is_the_one_that_the_client_asked() {
    for scheme in ["tcp", "udp"] {
        for_each_strategy(|strategy| {
            let host = Host::serve(&[
                &format!("{scheme}://[::]:0"),
                &guest("command_environment"),
                "--concurrency",
                strategy,
            ]);
            let port = host.address().to_string().rsplit(':').next().unwrap().to_owned();
            let address = format!("{scheme}://127.0.0.1:{port}").parse().unwrap();
            let answer = String::from_utf8(Client::ask(&address, b"")).unwrap();
            let protocol = scheme.to_uppercase();
            for line in [format!("{protocol}LOCALIP=127.0.0.1"), format!("{protocol}REMOTEIP=127.0.0.1")] {
                assert!(answer.lines().any(|other| other == line), "no {line} in {answer}");
            }
        });
    }
}

#[test]
fn variables_and_arguments_are_granted_and_do_not_hide_those_of_the_connection() {
    let program = guest("command_environment");
    let granted = ["--env", "COLOUR=blue", "--env", "TCPREMOTEIP=192.0.2.1", "--", "first", "--second"];
    let host = Host::serve(&[&["tcp://127.0.0.1:0", &program][..], &granted].concat());
    let answer = String::from_utf8(host.ask(b"")).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[..2], [&format!("{program} first --second"), "COLOUR=blue"]);
    assert!(answer.contains("TCPREMOTEIP=127.0.0.1\n") && !answer.contains("192.0.2.1"), "{answer}");
}

/// Outcomes that the program decides: its answer, and what is said of its request.
#[test]
fn the_exit_status_is_the_outcome() {
    let exit = || handler("command_exit");
    for_each_case(|case| {
        for (handler, request, answer, outcome) in [
            (exit(), "0\n", "exiting with 0\n", None),
            // The call that this one has to exit with tells success from failure and no more.
            (exit(), "3\n", "exiting with 3\n", Some("it exited with status 1")),
            (preview1("exit3"), "", "three", Some("it exited with status 3")),
            (sandbox().load(written("exit_with_code")).unwrap(), "", "", Some("it exited with status 42")),
        ] {
            let (server, recorder) = start(case, handler);
            let client = server.connect();
            client.send(request.as_bytes());
            let failures = recorder.failures_when_closed(1);
            assert_eq!(client.recv_exact(answer.len()), answer.as_bytes());
            match (&failures[..], outcome) {
                ([], None) => {}
                ([error], Some(outcome)) => {
                    assert!(matches!(&error.cause, Cause::Error(message) if message == outcome), "{error}");
                }
                _ => panic!("{outcome:?} has become {failures:?}"),
            }
        }
    });
}

#[test]
fn a_program_that_reads_nothing_or_traps_ends_its_own_request_alone() {
    for_each_case(|case| {
        let ask_twice = |server: &Running, recorder: &Recorder| {
            let clients = [server.connect(), server.connect()];
            clients.iter().for_each(|client| client.send(b""));
            recorder.failures_when_closed(2)
        };
        let (server, recorder) = start(case, preview1("nothing"));
        assert!(ask_twice(&server, &recorder).is_empty());
        for handler in [preview1("trap"), handler("command_panic")] {
            let (server, recorder) = start(case, handler);
            let failures = ask_twice(&server, &recorder);
            let is_trap = |error: &RequestError| matches!(error.cause, Cause::Trap { .. });
            assert!(failures.len() == 2 && failures.iter().all(is_trap), "{failures:?}");
        }
    });
}

/// C11: a program need not read what its client sends.
#[test]
fn an_answer_arrives_although_the_program_reads_nothing() {
    streams(|case| {
        let (server, _) = start(case, preview1("exit3"));
        assert_eq!(server.connect().exchange(&pattern(500_000)), b"three");
    });
}

/// C3: the program gets an error code, whatever it makes of it; it is the client's fault.
#[test]
fn a_client_that_leaves_while_a_program_writes_ends_it() {
    streams(|case| {
        for handler in [handler("command_flood"), handler("command_println_flood"), preview1("flood")] {
            let (server, recorder) = start(case, handler);
            for end in [drop::<Client>, Client::reset] {
                let client = server.connect();
                client.recv_exact(10_000);
                end(client);
            }
            let failures = recorder.failures_when_closed(2);
            let is_client = |error: &RequestError| matches!(error.cause, Cause::Client(_));
            assert!(failures.len() == 2 && failures.iter().all(is_client), "{failures:?}");
        }
    });
    let host = Host::tcp("command_flood", &[]);
    host.connect().recv_exact(10_000);
    host.log.wait_for("cannot write: BrokenPipe");
    host.log.wait_for("client went or fell silent: it exited with status 1");
}

/// G7
#[test]
fn a_client_that_never_reads_ends_a_program_at_the_idle_timeout() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("command_flood", &["--idle-timeout", "300ms", "--concurrency", strategy]);
        let client = host.connect();
        host.log.wait_for("client dropped: idle time limit of 300ms reached");
        drop(client);
    });
}

#[test]
fn a_client_that_never_writes_ends_a_program_at_the_idle_timeout() {
    for handler in [guest("command_cat"), written("preview1_cat")] {
        for_each_strategy(|strategy| {
            let host = Host::serve(&[
                "tcp://127.0.0.1:0",
                &handler,
                "--idle-timeout",
                "100ms",
                "--concurrency",
                strategy,
            ]);
            let client = host.connect();
            client.send(b"a");
            assert_eq!(client.recv_exact(1), b"a");
            assert!(client.is_closed());
            host.log.wait_for("client dropped: idle time limit of 100ms reached");
        });
    }
}

/// G1, G10
#[test]
fn a_program_ends_at_the_limits_of_its_request() {
    let (busy, waiting) = (written("preview1_loop"), guest("command_cat"));
    for (handler, limit, cause) in [
        (&busy, ["--cpu-time", "100ms"], "CPU time limit of 100ms reached"),
        (&busy, ["--request-time", "100ms"], " time limit of 100ms reached"),
        (&waiting, ["--request-time", "100ms"], " time limit of 100ms reached"),
    ] {
        for_each_strategy(|strategy| {
            let host = Host::serve(
                &[&["tcp://127.0.0.1:0", handler, "--concurrency", strategy], &limit[..]].concat(),
            );
            assert!(host.connect().is_closed());
            host.log.wait_for(cause);
        });
    }
}

/// G14: also where the operator lets handlers be used again.
#[test]
fn every_request_runs_the_program_anew() {
    let limits = Limits { reuse: 5, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let counter = sandbox.load(written("preview1_counter")).unwrap();
    for_each_case(|case| {
        let (server, _) = start(case, counter.clone());
        for _ in 0..5 {
            assert_eq!(server.ask(b"x"), b"1");
        }
    });
}

#[test]
fn check_says_of_which_kind_a_handler_is() {
    for (handler, kind) in [
        (guest("phases"), "contract handler"),
        (guest("command_cat"), "command"),
        (written("preview1_cat"), "preview 1 command"),
    ] {
        let checked = run(plugsock().args(["check", &handler]));
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.contains(&format!("kind     {kind}\n")), "{}", checked.stdout);
    }
}

#[test]
fn a_program_for_another_patch_of_wasi_is_served() {
    for version in ["0_2_0", "0_2_99"] {
        let mut host = Host::serve(&["tcp://127.0.0.1:0", &written(&format!("run_wasi_{version}"))]);
        assert!(host.connect().is_closed());
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("handler "), [""; 0]);
    }
}

/// Two command-line tools that know nothing of sockets.
#[test]
fn programs_that_others_wrote_are_served() {
    let tool = |name: &str| sandbox().load(program(name)).unwrap();
    for (tool, request, answer) in [
        (tool("jsonxf"), r#"{"a":[1,2]}"#, "{\n  \"a\": [\n    1,\n    2\n  ]\n}\n"),
        (tool("pulldown-cmark"), "# Hello\n\n*world*\n", "<h1>Hello</h1>\n<p><em>world</em></p>\n"),
    ] {
        for_each_case(|case| {
            let (server, recorder) = start(case, tool.clone());
            assert_eq!(String::from_utf8(server.ask(request.as_bytes())).unwrap(), answer);
            assert!(recorder.failures_when_closed(1).is_empty());
        });
    }
}
