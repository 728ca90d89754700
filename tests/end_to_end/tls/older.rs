//! Components that were built for other versions of the contract.

use std::path::Path;

use super::client::{Close, End};
use super::{Protected, Way};
use crate::harness::{Client, Ended, Host, cache_dir, for_each_strategy, plugsock, run};

fn built_for_0_1_0(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("built_for_0_1_0");
    directory.join(name).with_extension("wasm").display().to_string()
}

fn check(path: &str) -> Ended {
    run(plugsock().args(["check", path]).arg("--cache-dir").arg(cache_dir()))
}

#[test]
fn a_handler_for_0_1_0_is_served() {
    let upper = built_for_0_1_0("upper");
    let checked = check(&upper);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", &upper, "--concurrency", strategy]);
        assert_eq!(host.ask(b"hello"), b"HELLO");
        let args = ["--concurrency", strategy];
        let protected = Protected::serve_handler("tls://127.0.0.1:0", &upper, &args);
        let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
        assert_eq!(client.exchange(b"hello", Close::Says), (b"HELLO".to_vec(), End::Said));
    });
}

#[test]
fn hooks_for_0_1_0_are_run() {
    let hooks = built_for_0_1_0("hooks");
    let checked = check(&hooks);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for_each_strategy(|strategy| {
        let args = ["udp://127.0.0.1:0", &hooks, "--concurrency", strategy];
        let host = Host::serve(&args);
        let client = Client::connect(host.address());
        client.send(b"refuse me");
        assert_eq!(client.exchange(b"hello"), b"hello");
        assert!(client.has_nothing());
        let protected = Protected::serve_handler("tls://127.0.0.1:0", &hooks, &["--concurrency", strategy]);
        let mut client = Way::Listener.connect(&protected.host, &protected.settings(1));
        assert_eq!(client.exchange(b"hello", Close::Says), (b"hello".to_vec(), End::Said));
    });
}

#[test]
fn a_handler_for_0_2_0_is_refused_in_words() {
    let mut component = std::fs::read(built_for_0_1_0("upper")).unwrap();
    let (old, new) = (b"plugsock:handler/request-handler@0.1.0", b"plugsock:handler/request-handler@0.2.0");
    let found: Vec<usize> = component
        .windows(old.len())
        .enumerate()
        .filter(|(_, bytes)| bytes == old)
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty());
    found.iter().for_each(|at| component[*at..][..new.len()].copy_from_slice(new));
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("newer.wasm");
    std::fs::write(&path, component).unwrap();
    let checked = check(path.to_str().unwrap());
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("it was built for version 0.2.0 of the contract plugsock:handler"), "{checked:?}");
}
