//! Handlers that may do different things, beside each other in one process and on one engine; and slots that change together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugsock::{
    Cause, Digest, DirGrant, Grants, Handler, HandlerError, Limit, Limits, Probe, Sandbox, SandboxError,
    SandboxOptions, ServerOptions, ServerType, Slot, SlotOptions, SwapError, SwapOptions, Swapped, Trust,
};

use crate::harness::{
    Case, Recorder, Running, STRATEGIES, for_each_strategy, guest, handler, sandbox_options, version, who,
};

const MIB: usize = 1 << 20;

fn small() -> Limits {
    Limits { memory: 8 * MIB, max_requests: 50, ..Limits::default() }
}

fn large() -> Limits {
    Limits { memory: 32 * MIB, ..small() }
}

/// A sandbox with the small limits, and one with the large ones, on an engine with room for both.
fn two_sandboxes() -> (Sandbox, Sandbox) {
    let options = SandboxOptions { limits: small().covering(&large()), ..sandbox_options() };
    let sandbox = Sandbox::new(options).unwrap();
    let with = |limits| sandbox.with(limits, Grants::default(), Trust::default()).unwrap();
    (with(small()), with(large()))
}

fn tcp(strategy: &'static str) -> Case {
    Case { server_type: ServerType::Tcp, strategy }
}

fn no_options() -> SwapOptions {
    SwapOptions::default()
}

#[test]
fn each_handler_has_its_own_memory() {
    let (small, large) = two_sandboxes();
    for_each_strategy(|strategy| {
        let serve =
            |sandbox: &Sandbox| Running::start(tcp(strategy), sandbox.load(guest("memory_bomb")).unwrap());
        let (small, large) = (serve(&small), serve(&large));
        for _ in 0..2 {
            let mib = |server: &Running| {
                let answer = String::from_utf8(server.ask(b"")).unwrap();
                answer.trim_end_matches(" MiB\n").parse::<usize>().unwrap()
            };
            assert!((4..8).contains(&mib(&small)), "{}", mib(&small));
            assert!((16..32).contains(&mib(&large)), "{}", mib(&large));
        }
    });
}

#[test]
fn each_handler_has_its_own_grants() {
    let sandbox = Sandbox::new(sandbox_options()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let granted = |colour: &str, dirs| {
        let grants =
            Grants { env: vec![("COLOUR".to_owned(), colour.to_owned())], dirs, ..Grants::default() };
        sandbox.with(Limits::default(), grants, Trust::default()).unwrap()
    };
    let dirs = vec![DirGrant { host: directory.path().into(), guest: "/data".to_owned(), read_only: true }];
    let (red, blue) = (granted("red", Vec::new()), granted("blue", dirs));
    for_each_strategy(|strategy| {
        let serve =
            |sandbox: &Sandbox| Running::start(tcp(strategy), sandbox.load(guest("env_and_args")).unwrap());
        let answer = |sandbox| String::from_utf8(serve(sandbox).ask(b"")).unwrap();
        assert_eq!(answer(&red), "env=COLOUR=red\n");
        assert_eq!(answer(&blue), "env=COLOUR=blue\ndir=/data\n");
    });
    let missing =
        DirGrant { host: directory.path().join("none"), guest: "/none".to_owned(), read_only: true };
    let grants = Grants { dirs: vec![missing], ..Grants::default() };
    let refused = sandbox.with(Limits::default(), grants, Trust::default());
    assert!(matches!(refused, Err(SandboxError::Directory { .. })));
}

/// Time, and what a client must keep, are the handler's, too.
#[test]
fn each_handler_has_its_own_time_and_pace() {
    let sandbox = Sandbox::new(sandbox_options()).unwrap();
    let slow = Limits { min_rate: Some("1000/s:100ms".parse().unwrap()), ..Limits::default() };
    let short = Limits { cpu_time: Some(Duration::from_millis(50)), ..Limits::default() };
    let with = |limits: &Limits| sandbox.with(limits.clone(), Grants::default(), Trust::default()).unwrap();
    for_each_strategy(|strategy| {
        let ends = |limits: &Limits, name| {
            let recorder = Recorder::default();
            let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
            let handler = with(limits).load(guest(name)).unwrap();
            let server = Running::start_with(tcp(strategy), handler, options);
            assert!(server.connect().is_closed());
            recorder.failures_when_closed(1)[0].cause.clone()
        };
        let cause = ends(&short, "loop_forever");
        assert!(matches!(cause, Cause::Limit(Limit::CpuTime(_))), "{cause:?}");
        let cause = ends(&slow, "streams_echo");
        assert!(matches!(cause, Cause::Limit(Limit::MinRate(_))), "{cause:?}");
    });
}

#[test]
fn each_handler_is_believed_for_its_own_reasons() {
    let sandbox = Sandbox::new(sandbox_options()).unwrap();
    let trust = |digest: Digest| Trust { digest: Some(digest), ..Trust::default() };
    let digest = |handler: &Handler| handler.digest().parse::<Digest>().unwrap();
    let with = |trust| sandbox.with(Limits::default(), Grants::default(), trust).unwrap();
    let (phases, counter) = (digest(&handler("phases")), digest(&handler("counter")));
    assert!(with(trust(phases)).load(guest("phases")).is_ok());
    let refused = with(trust(counter)).load(guest("phases"));
    assert!(matches!(refused, Err(HandlerError::Untrusted { .. })), "{refused:?}");
}

/// The engine's pools are as large as they were when it was started.
#[test]
fn limits_beyond_the_engine_are_refused() {
    let sandbox = Sandbox::new(SandboxOptions { limits: small(), ..sandbox_options() }).unwrap();
    let with = |limits| sandbox.with(limits, Grants::default(), Trust::default());
    for (limits, option) in [
        (large(), "--memory"),
        (Limits { table_elements: 1 << 20, ..small() }, "--table-elements"),
        (Limits { instances: 1000, ..small() }, "--instances"),
        (Limits { warm: 1, ..small() }, "--warm"),
    ] {
        let refused = with(limits).err().expect("there is no room for it").to_string();
        assert!(refused.contains(option), "{refused}");
    }
    // A component that begins with more than it may have is not served, though the engine has room for it.
    let narrow = with(Limits { memory: 64 << 10, ..small() }).unwrap();
    let refused = narrow.load(guest("phases")).unwrap_err().to_string();
    assert!(refused.contains("raise --memory"), "{refused}");
}

#[test]
fn slots_change_together_or_not_at_all() {
    for strategy in STRATEGIES {
        let slots = ["AAA", "BBB"].map(|name| Slot::from(version(name)));
        let servers = slots.each_ref().map(|slot| Running::start(tcp(strategy), slot.clone()));
        let now = || servers.each_ref().map(|server| who(server));
        // They serve their slots from here on.
        assert_eq!(now(), ["AAA", "BBB"], "{strategy}");
        let ready = |slot: &Slot, name: &str| {
            slot.ready(version(name), no_options(), SlotOptions::default()).map(drop)
        };
        {
            let _first = slots[0].ready(version("CCC"), no_options(), SlotOptions::default()).unwrap();
            let missing = slots[1].ready(Path::new("/nowhere.wasm"), no_options(), SlotOptions::default());
            assert!(matches!(missing.err(), Some(SwapError::Handler(_))));
            assert_eq!(now(), ["AAA", "BBB"], "{strategy}");
        }
        // Nothing has become of it, and the slot can be changed again.
        assert_eq!(now(), ["AAA", "BBB"], "{strategy}");
        assert_eq!(slots[0].last_generation(), 1);
        ready(&slots[0], "DDD").unwrap();
        let first = slots[0].ready(version("EEE"), no_options(), SlotOptions::default()).unwrap();
        let second = slots[1].ready(version("FFF"), no_options(), SlotOptions::default()).unwrap();
        assert_eq!(now(), ["AAA", "BBB"], "{strategy}");
        let published = [first.publish(), second.publish()];
        for swapped in published {
            assert!(matches!(swapped, Swapped::Published { generation: 2, .. }), "{swapped:?}");
        }
        assert_eq!(now(), ["EEE", "FFF"], "{strategy}");
    }
}

/// The same component with other limits is another version, and serves with those.
#[test]
fn limits_and_grants_are_swapped_like_components() {
    let (small, large) = two_sandboxes();
    for_each_strategy(|strategy| {
        let load = |sandbox: &Sandbox| sandbox.load(guest("memory_bomb")).unwrap();
        let slot = Slot::from(load(&small));
        let server = Running::start(tcp(strategy), slot.clone());
        let mib = || {
            let answer = String::from_utf8(server.ask(b"")).unwrap();
            answer.trim_end_matches(" MiB\n").parse::<usize>().unwrap()
        };
        assert!(mib() < 8);
        assert!(matches!(slot.swap(load(&small)).unwrap(), Swapped::Unchanged { .. }));
        assert!(matches!(slot.swap(load(&large)).unwrap(), Swapped::Published { generation: 2, .. }));
        assert!(mib() > 8);
        // A file is loaded with what the slot's handler may do now.
        let again = slot.swap(PathBuf::from(guest("memory_bomb"))).unwrap();
        assert!(matches!(again, Swapped::Unchanged { generation: 2, .. }), "{again:?}");
        assert!(matches!(slot.rollback().unwrap(), Swapped::Published { generation: 3, .. }));
        assert!(mib() < 8);
    });
}

/// A probe and the like are the slot's from the publication on.
#[test]
fn a_slot_takes_other_options_with_a_version() {
    let slot = Slot::from(version("AAA"));
    let _server = Running::start(tcp("threading"), slot.clone());
    let expecting = |name: &str| SlotOptions {
        probe: Some(Probe {
            input: b"who?\n".to_vec(),
            expected: Some(format!("{name} who?\n").into_bytes()),
            expected_status: None,
        }),
        ..SlotOptions::default()
    };
    let refused = slot.ready(version("BBB"), no_options(), expecting("XXX")).err();
    assert!(matches!(refused, Some(SwapError::Probe { .. })), "{refused:?}");
    // They were not taken, since nothing was published.
    assert!(slot.swap(version("BBB")).is_ok());
    slot.ready(version("CCC"), no_options(), expecting("CCC")).unwrap().publish();
    let refused = slot.swap(version("DDD"));
    assert!(matches!(refused, Err(SwapError::Probe { .. })), "{refused:?}");
}
