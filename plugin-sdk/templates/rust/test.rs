//! Builds the handler and asks it.

use std::env;
use std::process::Command;

#[test]
fn the_handler_answers() {
    let plugsock = env::var("PLUGSOCK").unwrap_or_else(|_| "plugsock".to_owned());
    let run = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command.arg(argument).current_dir(env!("CARGO_MANIFEST_DIR")).env("PLUGSOCK", &plugsock);
        let status = command.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} {argument}");
    };
    run(&plugsock, "build");
    run("sh", "test.sh");
}
