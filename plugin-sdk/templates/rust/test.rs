//! Builds the handler and asks it.

use std::process::Command;

#[test]
fn the_handler_answers() {
    let here = env!("CARGO_MANIFEST_DIR");
    let run = |program: &str, argument: &str| {
        let status = Command::new(program).arg(argument).current_dir(here).status();
        assert!(status.unwrap_or_else(|error| panic!("{program}: {error}")).success(), "{program} {argument}");
    };
    run("plugsock", "build");
    run("sh", "test.sh");
}
