//! `plugsock call`: one request without a socket.

use std::process::Command;

use crate::harness::{Ended, cache_dir, guest, plugin, plugsock, run};

/// Calls a handler with `input` as what its client sends.
fn call(input: &str, handler: &str, args: &[&str]) -> Ended {
    let mut shell = Command::new("sh");
    shell.args(["-c", "input=$1; shift; printf %s \"$input\" | \"$@\"", "sh", input]);
    shell.arg(plugsock().get_program()).args(["call", handler]).args(args);
    run(shell.arg("--cache-dir").arg(cache_dir()))
}

#[test]
fn standard_input_and_output_are_the_client() {
    for args in [&[][..], &["--datagram"]] {
        let ended = call("hello\n", &plugin("echo"), args);
        assert_eq!((ended.code, &*ended.stdout), (Some(0), "hello\n"), "{ended:?}");
    }
}

#[test]
fn each_reply_is_printed() {
    let ended = call("", &guest("multi_reply"), &["--datagram"]);
    assert_eq!((ended.code, ended.stdout.replace('\n', "")), (Some(0), "123".to_owned()), "{ended:?}");
}

#[test]
fn a_handler_that_fails_is_an_error() {
    for (name, word) in [("error_in_handle", "error in handle"), ("trap_in_setup", "trap")] {
        let ended = call("", &guest(name), &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stdout.starts_with("setup\n") && ended.stderr.contains(word), "{ended:?}");
    }
    assert_eq!(call("", "/no/such/handler.wasm", &[]).code, Some(1));
}
