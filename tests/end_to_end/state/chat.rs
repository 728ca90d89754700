//! The chat, with many clients: all hear all, in one order.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::thread;

use socket2::Socket;

use crate::harness::{Client, Host, STRATEGIES, plugin};

use super::{TCP, directory, file};

/// A client in the room.
struct Guest {
    lines: BufReader<Socket>,
}

impl Guest {
    fn enter(host: &Host, name: &str) -> Self {
        let Client { socket, .. } = Client::connect(host.address());
        let mut guest = Self { lines: BufReader::new(socket) };
        assert_eq!(guest.hear(), "Your name?");
        guest.say(name);
        // What others say meanwhile comes, too.
        let come = format!("* {name} has come");
        while guest.hear() != come {}
        guest
    }

    fn say(&mut self, line: &str) {
        writeln!(self.lines.get_mut(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the room has closed: {line}");
        line.trim_end().to_owned()
    }
}

/// One strategy serves one client at a time, which is no room.
fn rooms() -> impl Iterator<Item = &'static str> {
    STRATEGIES.into_iter().filter(|strategy| *strategy != "sync")
}

fn open(strategy: &str, store: &str) -> Host {
    let grant = format!("room={store}");
    let args = [TCP, &plugin("chat"), "--state", &grant, "--concurrency", strategy];
    // As many as there are guests.
    let workers: &[&str] = if strategy == "pool" { &["--workers", "20"] } else { &[] };
    Host::serve(&[&args[..], workers].concat())
}

#[test]
fn all_hear_all_in_one_order() {
    const GUESTS: usize = 12;
    const SAID: usize = 5;
    for strategy in rooms() {
        let directory = directory();
        for store in ["memory", &file(directory.path())] {
            let host = open(strategy, store);
            let mut guests: Vec<Guest> =
                (0..GUESTS).map(|number| Guest::enter(&host, &format!("g{number}"))).collect();
            let heard: Vec<Vec<String>> = thread::scope(|scope| {
                let all: Vec<_> = guests
                    .iter_mut()
                    .map(|guest| {
                        scope.spawn(move || {
                            (0..SAID).for_each(|number| guest.say(&format!("message {number}")));
                            let mut heard = Vec::new();
                            while heard.len() < GUESTS * SAID {
                                let line = guest.hear();
                                if !line.starts_with('*') {
                                    heard.push(line);
                                }
                            }
                            heard
                        })
                    })
                    .collect();
                all.into_iter().map(|heard| heard.join().unwrap()).collect()
            });
            assert!(heard.iter().all(|other| *other == heard[0]), "{strategy} {store}: not in one order");
            let each: BTreeSet<&String> = heard[0].iter().collect();
            assert_eq!(each.len(), GUESTS * SAID, "{strategy} {store}");
            drop(guests.pop());
            assert_eq!(guests[0].hear(), format!("* g{} has gone", GUESTS - 1));
        }
    }
}

/// Also a client of `sync`, alone.
#[test]
fn what_was_said_before_is_not_heard() {
    for strategy in STRATEGIES {
        let host = open(strategy, "memory");
        let heard = |name: &str| {
            let mut guest = Guest::enter(&host, name);
            guest.say("hello");
            let heard = guest.hear();
            drop(guest);
            heard
        };
        assert_eq!(heard("anna"), "anna: hello");
        // Whoever has gone says so in his own time.
        let ben = loop {
            let heard = heard("ben");
            if !heard.starts_with('*') {
                break heard;
            }
        };
        assert_eq!(ben, "ben: hello", "{strategy}");
    }
}

#[test]
fn nobody_controls_anothers_terminal() {
    let host = open("threading", "memory");
    let mut anna = Guest::enter(&host, "anna");
    let mut ben = Guest::enter(&host, "ben");
    assert_eq!(anna.hear(), "* ben has come");
    ben.say("\u{1b}[2Jhello");
    assert_eq!(anna.hear(), "ben: \u{fffd}[2Jhello");
    // Whose line never ends goes.
    ben.say(&"x".repeat(5000));
    host.log.wait_for("the client's line is too long");
}
