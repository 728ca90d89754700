//! A new version beside the old one, with a share of the new requests.

use plugsock::{
    RollbackPolicy, ServerType, Share, Slot, SlotOptions, SwapError, SwapOptions, Swapped, VersionState,
};

use crate::harness::{Case, Running, for_each_strategy, handler, version, wait_until, who};

fn share(text: &str) -> SwapOptions {
    let share: Share = text.parse().unwrap();
    SwapOptions { canary: Some(share), ..SwapOptions::default() }
}

fn start(strategy: &'static str, options: SlotOptions) -> (Slot, Running) {
    let slot = Slot::new(version("one"), options).unwrap();
    let server = Running::start(Case { server_type: ServerType::Tcp, strategy }, slot.clone());
    server.start().unwrap();
    (slot, server)
}

/// How many of so many requests a version got.
fn count(server: &Running, name: &str, requests: usize) -> usize {
    (0..requests).filter(|_| who(server) == name).count()
}

#[test]
fn a_canary_gets_its_share_and_no_more() {
    for_each_strategy(|strategy| {
        for (text, requests, expected) in [("25%", 100, 25), ("10%", 100, 10), ("100%", 20, 20)] {
            let (slot, server) = start(strategy, SlotOptions::default());
            let swapped = slot.swap_with(version("two"), share(text)).unwrap();
            assert!(matches!(swapped, Swapped::Published { generation: 2, .. }));
            assert_eq!(count(&server, "two", requests), expected, "{text}");
            wait_until(|| slot.versions().iter().all(|version| version.open == 0));
            let [canary, stable] = &slot.versions()[..] else { panic!("there are two versions") };
            assert_eq!(canary.state, VersionState::Canary(text.parse().unwrap()));
            assert_eq!(stable.state, VersionState::Serving);
            assert_eq!((canary.ended as usize, stable.ended as usize), (expected, requests - expected));
            assert!(canary.latency[2] >= canary.latency[0] && !canary.latency[0].is_zero());
        }
    });
}

#[test]
fn a_canary_is_promoted_or_aborted() {
    for_each_strategy(|strategy| {
        let (slot, server) = start(strategy, SlotOptions::default());
        assert!(matches!(slot.promote(), Err(SwapError::NoCanary)));
        assert!(matches!(slot.abort(), Err(SwapError::NoCanary)));
        slot.swap_with(version("two"), share("50%")).unwrap();
        assert!(matches!(slot.rollback(), Err(SwapError::CanaryOnTrial)));
        let one = version("one").digest().to_owned();
        assert_eq!(slot.abort().unwrap(), Swapped::Published { generation: 1, digest: one });
        assert_eq!(count(&server, "one", 10), 10);
        slot.swap_with(version("two"), share("50%")).unwrap();
        let two = version("two").digest().to_owned();
        assert_eq!(slot.promote().unwrap(), Swapped::Published { generation: 3, digest: two });
        assert_eq!(count(&server, "two", 10), 10);
        slot.rollback().unwrap();
        assert_eq!(count(&server, "one", 10), 10);
        let states: Vec<VersionState> = slot.versions().into_iter().map(|version| version.state).collect();
        assert_eq!(states[0], VersionState::Serving);
        assert_eq!(states[2..], [VersionState::Aborted, VersionState::Replaced]);
    });
}

/// Another canary takes the place of the first, and another version that of both.
#[test]
fn a_swap_ends_a_trial() {
    let (slot, server) = start("threading", SlotOptions::default());
    slot.swap_with(version("two"), share("50%")).unwrap();
    slot.swap_with(version("six"), share("50%")).unwrap();
    assert_eq!((count(&server, "two", 10), count(&server, "six", 10)), (0, 5));
    slot.swap(version("ten")).unwrap();
    assert_eq!(count(&server, "ten", 10), 10);
    let states: Vec<VersionState> = slot.versions().into_iter().map(|version| version.state).collect();
    let expected =
        [VersionState::Serving, VersionState::Aborted, VersionState::Aborted, VersionState::Replaced];
    assert_eq!(states, expected);
}

/// What was put back before the trial can still be put back after it.
#[test]
fn a_canary_that_fails_is_aborted_by_itself() {
    for_each_strategy(|strategy| {
        let policy: RollbackPolicy = "errors>50%/1h/3".parse().unwrap();
        let (slot, server) =
            start(strategy, SlotOptions { rollback_on: Some(policy), ..SlotOptions::default() });
        slot.swap(version("two")).unwrap();
        slot.swap_with(handler("trap_in_handle"), share("50%")).unwrap();
        assert_eq!(count(&server, "two", 6), 3);
        wait_until(|| matches!(slot.versions()[0].state, VersionState::RolledBack(_)));
        assert_eq!(count(&server, "two", 10), 10);
        let refused = slot.swap_with(handler("trap_in_handle"), share("1%")).unwrap_err();
        assert!(matches!(refused, SwapError::Refused { .. }), "{refused}");
        slot.rollback().unwrap();
        assert_eq!(who(&server), "one");
    });
}
