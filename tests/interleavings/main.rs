//! What is synchronised by hand in the host, in every order in which its threads may run: the host's own source, with
//! `loom`'s types in the place of the standard library's.

mod sync;
mod wake;

#[allow(dead_code, reason = "a part of it is modelled")]
#[path = "../../host/src/admission.rs"]
mod admission;
#[allow(dead_code, reason = "a part of it is modelled")]
#[path = "../../host/src/server/control.rs"]
mod control;
#[allow(dead_code, reason = "a part of it is modelled")]
#[path = "../../host/src/job/table.rs"]
mod table;

use std::sync::atomic::Ordering::SeqCst;

use loom::thread;

use admission::{Admission, Bound, Permit};
use control::LoopControl;
use sync::{Arc, AtomicUsize};
use table::Table;
use wake::Wake;

/// Waits for room as an accept loop does.
fn admit(admission: &Admission, wake: &Arc<Wake>) -> Permit {
    loop {
        if let Some(permit) = admission.admit(wake) {
            return permit;
        }
        wake.wait();
    }
}

/// Whoever ends wakes whoever sleeps, of its own server and of another.
#[test]
fn no_wake_up_is_lost() {
    for sleeper in [0, 1] {
        loom::model(move || {
            let all = Bound::new(1);
            let mut servers = Vec::from([1, 1].map(|max| Admission::new(max, all.clone())));
            let open = servers[0].admit(&Arc::new(Wake::new().unwrap())).unwrap();
            let admission = servers.swap_remove(sleeper);
            let accepting = thread::spawn(move || drop(admit(&admission, &Arc::new(Wake::new().unwrap()))));
            drop(open);
            accepting.join().unwrap();
        });
    }
}

/// To look for room, and to find none, wakes nobody: not the others, and not oneself.
#[test]
fn to_look_for_room_wakes_nobody() {
    loom::model(|| {
        let all = Bound::new(1);
        let servers = [2, 1].map(|max| Admission::new(max, all.clone()));
        let wakes = [(); 2].map(|()| Arc::new(Wake::new().unwrap()));
        let open = servers[0].admit(&wakes[0]).unwrap();
        let looking: Vec<_> = servers
            .into_iter()
            .zip(&wakes)
            .map(|(admission, wake)| {
                let wake = wake.clone();
                thread::spawn(move || {
                    assert!(!admission.has_room(&wake));
                    assert!(admission.admit(&wake).is_none());
                })
            })
            .collect();
        looking.into_iter().for_each(|looking| looking.join().unwrap());
        assert!(wakes.iter().all(|wake| wake.count() == 0));
        drop(open);
        assert!(wakes.iter().all(|wake| wake.count() == 1));
    });
}

#[test]
fn no_more_have_room_than_may() {
    let mut bounded = loom::model::Builder::new();
    // With more changes of threads in the middle of something it would take hours.
    bounded.preemption_bound = Some(2);
    bounded.check(|| {
        let (all, inside) = (Bound::new(1), Arc::new(AtomicUsize::new(0)));
        let accepting = [(); 2].map(|()| {
            let (admission, inside) = (Admission::new(2, all.clone()), inside.clone());
            thread::spawn(move || {
                let permit = admit(&admission, &Arc::new(Wake::new().unwrap()));
                assert_eq!(inside.fetch_add(1, SeqCst), 0);
                inside.fetch_sub(1, SeqCst);
                drop(permit);
            })
        });
        accepting.into_iter().for_each(|accepting| accepting.join().unwrap());
    });
}

/// Whoever waits for the end of all is told of it, and not before.
#[test]
fn who_waits_until_none_is_open_is_woken() {
    loom::model(|| {
        let table = Table::new();
        let open = [1, 2].map(|id| Table::enter(&table, id, ()));
        let ending = open.map(|entered| thread::spawn(move || drop(entered)));
        assert!(table.wait_until_none(None));
        assert_eq!(table.count(), 0);
        ending.into_iter().for_each(|ending| ending.join().unwrap());
    });
}

/// When a paused server is found drained, nothing is accepted any more.
#[test]
fn drained_is_exact() {
    loom::model(|| {
        let control = Arc::new(LoopControl::new().unwrap());
        let (table, ended) = (Table::new(), Arc::new(AtomicUsize::new(0)));
        let accepting = {
            let (control, table, ended) = (control.clone(), table.clone(), ended.clone());
            thread::spawn(move || {
                control.set_busy(true);
                if !control.is_paused() {
                    let entered = Table::enter(&table, 1, ());
                    ended.fetch_add(1, SeqCst);
                    drop(entered);
                }
                control.set_busy(false);
            })
        };
        control.pause();
        if !control.is_busy() && table.count() == 0 {
            let before = ended.load(SeqCst);
            accepting.join().unwrap();
            assert_eq!(ended.load(SeqCst), before, "something was accepted");
        } else {
            accepting.join().unwrap();
        }
    });
}
