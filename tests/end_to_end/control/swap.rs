//! Versions come, go, and come back.

use std::thread;

use plugsock::control::VersionStatusState::{Aborted, Canary, Replaced, RolledBack, Serving};
use plugsock::control::{Status, VersionStatusState};

use super::{TCP, done, is_refused};
use crate::harness::{Host, for_each_strategy, guest, plugin};

/// The versions' states, the newest first.
fn states(status: &Status) -> Vec<VersionStatusState> {
    status.slots[0].versions.iter().map(|version| version.state).collect()
}

#[test]
fn the_new_version_answers_and_the_old_one_ends_what_it_began() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&[TCP, "--concurrency", strategy]);
        let client = (strategy != "sync").then(|| host.connect());
        if let Some(client) = &client {
            client.send(b"a");
            assert_eq!(client.recv_exact(1), b"a");
        }
        let said = done(host.ctl(&["swap", &guest("v2")]));
        assert!(said.starts_with("echo: generation 2 serves, sha256:"), "{said}");
        assert_eq!(host.ask(b""), b"v2\n");
        if let Some(client) = client {
            assert_eq!(client.exchange(b"b"), b"b");
        }
        assert_eq!(states(&host.status()), [Serving, Replaced]);
    });
}

#[test]
fn the_same_digest_again_is_no_swap() {
    let host = Host::tcp("v2", &[]);
    let said = done(host.ctl(&["swap", &guest("v2")]));
    assert!(said.starts_with("v2: unchanged, since sha256:"), "{said}");
    assert!(said.ends_with("serves already, as generation 1\n"), "{said}");
    assert_eq!(host.status().slots[0].versions.len(), 1);
}

/// O4
#[test]
fn a_rollback_puts_the_version_before_in_place_as_a_new_generation() {
    let host = Host::serve(&[TCP]);
    is_refused(&host.ctl(&["rollback"]), &["no version to go back to"]);
    done(host.ctl(&["swap", &guest("v2")]));
    assert_eq!(host.ask(b"a"), b"v2\n");
    let said = done(host.ctl(&["rollback"]));
    assert!(said.starts_with("echo: generation 3 serves, sha256:"), "{said}");
    assert_eq!(host.ask(b"a"), b"a");
    // And back again.
    done(host.ctl(&["rollback"]));
    assert_eq!(host.ask(b"a"), b"v2\n");
    assert_eq!(states(&host.status()), [Serving, RolledBack, RolledBack, Replaced]);
}

#[test]
fn a_canary_gets_its_share_and_is_promoted_or_aborted() {
    let host = Host::serve(&[TCP]);
    let share = |host: &Host| (0..100).filter(|_| host.ask(b"a") == b"v2\n").count();
    is_refused(&host.ctl(&["promote"]), &["no canary"]);
    is_refused(&host.ctl(&["abort"]), &["no canary"]);

    let said = done(host.ctl(&["swap", &guest("v2"), "--canary", "25%"]));
    assert!(said.starts_with("echo: generation 2 gets 25% of new requests, sha256:"), "{said}");
    assert_eq!(share(&host), 25);
    let now = host.status();
    assert_eq!(states(&now), [Canary, Serving]);
    let [canary, stable] = &now.slots[0].versions[..] else { panic!("{now:?}") };
    assert_eq!(canary.share.as_deref(), Some("25%"));
    // The last request of each may not have ended when its answer came.
    assert_eq!((canary.total, stable.total), (25, 75));
    is_refused(&host.ctl(&["rollback"]), &["promote or abort it first"]);

    let said = done(host.ctl(&["abort"]));
    assert!(said.starts_with("echo: generation 1 serves"), "{said}");
    assert_eq!(share(&host), 0);
    assert_eq!(states(&host.status()), [Aborted, Serving]);

    done(host.ctl(&["swap", &guest("v2"), "--canary", "50%"]));
    let said = done(host.ctl(&["promote"]));
    assert!(said.starts_with("echo: generation 3 serves"), "{said}");
    assert_eq!(share(&host), 100);
    assert_eq!(states(&host.status()), [Serving, Aborted, Replaced]);
}

/// O3: what serves the probe may still fail under load.
#[test]
fn too_many_errors_roll_a_version_back_and_keep_it_out() {
    let host = Host::serve(&[TCP, "--rollback-on", "errors>50%/1h/4"]);
    let bad = guest("trap_in_handle");
    done(host.ctl(&["swap", &bad]));
    (0..4).for_each(|_| assert_eq!(host.ask(b"a"), b"setup\nhandle\n"));
    host.log.wait_for("rolled back sha256:");
    assert_eq!(host.ask(b"a"), b"a");
    let now = host.status();
    assert_eq!(states(&now), [Serving, RolledBack, Replaced]);
    let reason = now.slots[0].versions[1].reason.as_deref().unwrap();
    assert!(reason.contains("4 of its first 4 requests failed"), "{reason}");
    is_refused(&host.ctl(&["swap", &bad]), &["was rolled back before", "force"]);
    assert_eq!(host.ask(b"a"), b"a");
    done(host.ctl(&["swap", &bad, "--force"]));
    assert_eq!(host.ask(b"a"), b"setup\nhandle\n");
}

/// O4: each is done or superseded, and the generations say in which order.
#[test]
fn swaps_at_once_are_done_one_after_the_other() {
    let host = Host::serve(&[TCP]);
    let handlers = [guest("v2"), plugin("upper"), plugin("daytime"), plugin("qotd"), plugin("discard")];
    let ended: Vec<_> = thread::scope(|scope| {
        let swaps: Vec<_> =
            handlers.iter().map(|handler| scope.spawn(|| host.ctl(&["swap", handler]))).collect();
        swaps.into_iter().map(|swap| swap.join().unwrap()).collect()
    });
    let mut published = Vec::new();
    for (ended, handler) in ended.into_iter().zip(&handlers) {
        match ended.code {
            Some(0) => {
                let generation = ended.stdout.split(' ').nth(2).unwrap().parse::<usize>().unwrap();
                published.push((generation, handler.rsplit('/').next().unwrap()));
            }
            _ => is_refused(&ended, &["a later swap has taken its place"]),
        }
    }
    published.sort();
    let generations: Vec<_> = published.iter().map(|(generation, _)| *generation).collect();
    assert_eq!(generations, (2..2 + published.len()).collect::<Vec<_>>());
    let now = host.status();
    let versions: Vec<_> = now.slots[0].versions.iter().rev().skip(1).collect();
    assert_eq!(versions.len(), published.len());
    for (version, (generation, handler)) in versions.iter().zip(&published) {
        assert_eq!((version.generation as usize, &*version.handler), (*generation, *handler));
    }
    assert_eq!(versions.last().unwrap().state, Serving);
}
