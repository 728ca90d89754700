//! A version that fails too often is taken back by the host itself, as the operator has set it.

use plugsock::{RollbackPolicy, ServerType, Slot, SlotOptions, SwapError, SwapOptions, VersionState};
use rustix::process::Signal;

use crate::harness::{
    Case, Client, Deployed, Host, Running, for_each_strategy, guest, handler, version, versioned, wait_until,
    who,
};

const POLICY: &str = "errors>50%/1h/4";

fn observed(strategy: &'static str) -> (Slot, Running) {
    let policy: RollbackPolicy = POLICY.parse().unwrap();
    let options = SlotOptions { rollback_on: Some(policy), ..SlotOptions::default() };
    let slot = Slot::new(version("one"), options).unwrap();
    let server = Running::start(Case { server_type: ServerType::Tcp, strategy }, slot.clone());
    server.start().unwrap();
    (slot, server)
}

/// O3: one that fails only under load.
#[test]
fn a_version_that_fails_too_often_is_rolled_back_by_itself() {
    for_each_strategy(|strategy| {
        let (slot, server) = observed(strategy);
        for (failing, before) in [("trap_in_handle", 1), ("error_in_handle", 3)] {
            slot.swap(handler(failing)).unwrap();
            for _ in 0..4 {
                assert!(server.ask(b"1\n").starts_with(b"setup\n"));
            }
            let back = before + 2;
            wait_until(|| slot.versions()[0].generation == back);
            assert_eq!(who(&server), "one");
            let versions = slot.versions();
            let state = &versions[1].state;
            assert!(
                matches!(state, VersionState::RolledBack(reason) if reason.contains("4 of its first 4 requests")),
                "{state:?}"
            );
            assert_eq!((versions[1].failed, versions[0].state.clone()), (4, VersionState::Serving));
            // Not again by accident, nor by going back once more.
            let refused = slot.swap(handler(failing)).unwrap_err();
            assert!(matches!(refused, SwapError::Refused { .. }), "{refused}");
            assert!(matches!(slot.rollback(), Err(SwapError::NothingBefore)));
        }
        let force = SwapOptions { force: true, ..SwapOptions::default() };
        slot.swap_with(handler("trap_in_handle"), force).unwrap();
        assert!(server.ask(b"1\n").starts_with(b"setup\n"));
        slot.swap(version("two")).unwrap();
        assert_eq!(who(&server), "two");
    });
}

/// What fails seldom enough stays, and so does what fails when nothing else is there.
#[test]
fn a_version_that_fails_seldom_stays() {
    let (slot, server) = observed("threading");
    for _ in 0..10 {
        // A client that goes is no failure of the handler's.
        Client::connect(&server.address).reset();
    }
    slot.swap(version("two")).unwrap();
    for _ in 0..20 {
        let client = server.connect();
        client.send(b"1\n2\n");
        client.reset();
        assert_eq!(who(&server), "two");
    }
    wait_until(|| slot.versions()[0].open == 0);
    assert_eq!((slot.versions()[0].generation, slot.versions()[0].failed), (2, 0));
}

/// The command says what it did, and a SIGHUP does not bring the failing file back.
#[test]
fn the_command_rolls_back_and_says_why() {
    for_each_strategy(|strategy| {
        let deployed = Deployed::new(&versioned("one"));
        let path = deployed.path();
        let host = Host::serve(&[
            "tcp://127.0.0.1:0",
            &path,
            "--concurrency",
            strategy,
            "--rollback-on",
            "errors>20%/1h/3",
        ]);
        deployed.replace(&std::fs::read(guest("trap_in_handle")).unwrap());
        host.signal(Signal::HUP);
        host.log.wait_for(": swapped: ");
        for _ in 0..3 {
            assert!(host.ask(b"1\n").starts_with(b"setup\n"));
        }
        host.log.wait_for("3 of its first 3 requests failed, and errors>20%/1h/3 is the most allowed");
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
        host.signal(Signal::HUP);
        host.log.wait_for("was rolled back before");
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
    });
}
