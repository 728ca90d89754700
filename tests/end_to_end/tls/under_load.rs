//! Certificates, handlers and processes are replaced while clients come over TLS all the time: none of them fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use rustix::process::Signal;

use super::client::{Close, End, Settings, TlsClient, VERSIONS};
use crate::harness::certificates::Ca;
use crate::harness::{Deployed, Host, guest, relabelled};
use crate::upgrade::{end, upgrade};

const TURNS: usize = 100;

#[test]
fn nothing_that_is_replaced_is_noticed() {
    let component = std::fs::read(guest("tls")).unwrap();
    for strategy in ["threading", "async", "forking"] {
        let (ca, deployed) = (Ca::new("the CA"), Deployed::new(&component));
        let certified = [ca.server(&["localhost"]), ca.server(&["localhost"])];
        let identity = certified[0].write(deployed.directory(), "main");
        let args = ["tls://127.0.0.1:0", &deployed.path(), "--tls", &identity, "--concurrency", strategy];
        let host = Host::serve(&args);
        let (is_over, served, resumed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let staying = Settings::new(&ca, VERSIONS[1], "localhost");
        let ask = |settings: &Settings| {
            let mut client = TlsClient::connect(host.address(), settings);
            let answered = client.exchange(b"hello", Close::Says);
            assert_eq!(answered, (b"hello".to_vec(), End::Said), "{strategy}");
            client.is_resumed()
        };
        let successor = thread::scope(|scope| {
            for number in 0..4 {
                let (is_over, served, resumed, ask, ca) = (&is_over, &served, &resumed, &ask, &ca);
                scope.spawn(move || {
                    // Of half of them each is new to the server.
                    let mut settings = Settings::new(ca, VERSIONS[number % 2], "localhost");
                    while !is_over.load(SeqCst) {
                        resumed.fetch_add(usize::from(ask(&settings)), SeqCst);
                        served.fetch_add(1, SeqCst);
                        if number < 2 {
                            settings = Settings::new(ca, VERSIONS[number % 2], "localhost");
                        }
                    }
                });
            }
            // Also if one of the steps fails, so that the clients end.
            let _over = Over(&is_over);
            for turn in 1..=TURNS {
                certified[turn % 2].replace(deployed.directory(), "main");
                deployed.replace(&relabelled(component.clone(), &format!("{turn}")));
                host.signal(Signal::HUP);
                // One load may meet a certificate with the key of the next; then those before serve on.
                host.log.wait_for_count(": swapped: ", turn);
                ask(&Settings::new(&ca, VERSIONS[1], "localhost"));
            }
            assert!(!ask(&staying));
            let successor = upgrade(&host);
            host.wait_for_exit();
            assert!(ask(&staying), "{strategy}: a session was not resumed after the upgrade");
            successor
        });
        eprintln!("{strategy}: {served:?} served, {resumed:?} of them resumed");
        assert!(served.into_inner() > 2 * TURNS && resumed.into_inner() > TURNS / 2);
        end(host, successor);
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
