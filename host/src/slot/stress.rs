//! Versions are taken, servers come and go, and all at once swaps, rollbacks and trials.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::error::{Phase, RequestError};
use crate::sandbox::{Limits, Sandbox, SandboxOptions};
use crate::taken::Taken;

const ROUNDS: usize = 1000;
const TAKERS: usize = 3;

/// A longer wait is a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that notes what it is made ready for, and sometimes cannot be.
#[derive(Debug)]
struct Noting {
    info: Arc<ServerInfo>,
    prepared: Mutex<HashSet<u64>>,
    is_unwilling: AtomicBool,
}

impl Follower for Noting {
    fn info(&self) -> &Arc<ServerInfo> {
        &self.info
    }

    fn prepare(&self, version: &Arc<Version>) -> io::Result<()> {
        if self.is_unwilling.load(SeqCst) {
            return Err(io::Error::other("not now"));
        }
        self.prepared.lock().unwrap().insert(version.info.generation);
        Ok(())
    }

    fn cut(&self, _: &Version) -> usize {
        0
    }
}

fn noting() -> Arc<Noting> {
    let info = Arc::new(ServerInfo::none());
    Arc::new(Noting { info, prepared: Mutex::default(), is_unwilling: AtomicBool::new(false) })
}

/// Handlers that do the same and have different digests.
fn handlers() -> [Handler; 3] {
    let limits = Limits { max_requests: 1, ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, cache: None, ..SandboxOptions::default() }).unwrap();
    let echo = include_bytes!(env!("PLUGSOCK_ECHO"));
    // With a section that has a name and nothing else.
    [b'a', b'b', b'c']
        .map(|name| sandbox.load_bytes("echo", &[&echo[..], &[0, 2, 1, name]].concat()).unwrap())
}

/// A xorshift generator.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Whoever takes a version gets none that was replaced before, its server is ready for it, and nothing is left of
/// those that were replaced.
#[test]
fn a_version_that_is_taken_serves_and_is_ready() {
    let handlers = handlers();
    let options = SlotOptions {
        rollback_on: Some("errors>50%/1h/1".parse().unwrap()),
        max_drain: Some(Duration::from_millis(1)),
        drain_signal: true,
        ..SlotOptions::default()
    };
    let slot = Slot::new(handlers[0].clone(), options).unwrap();
    let server = noting();
    slot.attach(&(server.clone() as Arc<dyn Follower>)).unwrap();
    // No version of a generation before it may be taken any more.
    let floor = AtomicU64::new(1);
    let is_over = AtomicBool::new(false);
    let seen: Mutex<Vec<Weak<Version>>> = Mutex::default();
    thread::scope(|scope| {
        for seed in 1..=TAKERS as u64 {
            let (slot, server, floor, is_over, seen) = (&slot, &server, &floor, &is_over, &seen);
            scope.spawn(move || take_and_fail(slot, server, floor, is_over, seen, seed));
        }
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                let server = noting();
                slot.attach(&(server.clone() as Arc<dyn Follower>)).unwrap();
                let taken = slot.take();
                assert!(server.prepared.lock().unwrap().contains(&taken.info.generation));
            }
        });
        let mut state = 88_172_645_463_325_252;
        for _ in 0..ROUNDS {
            let number = random(&mut state);
            let handler = handlers[(number >> 8) as usize % handlers.len()].clone();
            let force = SwapOptions { force: true, ..SwapOptions::default() };
            let canary = SwapOptions { canary: Some("50%".parse().unwrap()), ..force.clone() };
            server.is_unwilling.store(number.is_multiple_of(7), SeqCst);
            let done = match (number >> 16) % 5 {
                0 => slot.rollback(),
                1 => slot.promote(),
                2 => slot.abort(),
                3 => slot.swap_with(handler, canary).inspect(|_| thread::yield_now()),
                _ => slot.swap_with(handler, force),
            };
            let is_trial = (2..=3).contains(&((number >> 16) % 5));
            match done {
                Ok(Swapped::Published { generation, .. }) if !is_trial => {
                    floor.fetch_max(generation, SeqCst);
                }
                Ok(_) => {}
                Err(SwapError::Prepare(_)) => assert!(server.is_unwilling.load(SeqCst)),
                Err(SwapError::NothingBefore | SwapError::NoCanary | SwapError::CanaryOnTrial) => {}
                Err(other) => panic!("{other}"),
            }
        }
        is_over.store(true, SeqCst);
    });
    server.is_unwilling.store(false, SeqCst);
    let _ = slot.abort();
    let seen = seen.into_inner().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // A rollback may be under way still.
    let is_left = |version: Arc<Version>| !Arc::ptr_eq(&version, &slot.stable());
    while seen.iter().filter_map(Weak::upgrade).any(is_left) {
        assert!(Instant::now() < deadline, "versions are left that nobody uses");
        thread::yield_now();
    }
    let versions = slot.versions();
    assert!(versions.is_sorted_by(|newer, older| newer.generation > older.generation));
    assert!(versions.iter().all(|version| version.open == 0));
    let serving = versions.iter().filter(|version| version.state == VersionState::Serving).count();
    assert_eq!(serving, 1, "{versions:?}");
}

/// Takes versions as requests do, keeps some for a while, and has some fail.
fn take_and_fail(
    slot: &Slot,
    server: &Noting,
    floor: &AtomicU64,
    is_over: &AtomicBool,
    seen: &Mutex<Vec<Weak<Version>>>,
    seed: u64,
) {
    let mut state = seed;
    let mut open: VecDeque<VersionHold> = VecDeque::new();
    let mut last = 0;
    while !is_over.load(SeqCst) {
        let least = floor.load(SeqCst);
        let version = slot.take();
        let generation = version.info.generation;
        assert!(generation >= least, "{generation} was taken after {least} had taken its place");
        assert!(server.prepared.lock().unwrap().contains(&generation));
        if generation != last {
            seen.lock().unwrap().push(Arc::downgrade(&version));
            last = generation;
        }
        open.push_back(version.enter());
        if open.len() > 8 {
            let served = match random(&mut state).is_multiple_of(8) {
                true => Err(RequestError::host(Phase::Handle, "for a test".to_owned())),
                false => Ok(()),
            };
            let hold = open.pop_front().expect("there are some");
            slot.count(&hold, &served, hold.latency(), &Taken::default());
        }
    }
}
