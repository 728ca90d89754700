//! More open connections than there could be threads: `async`.

use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Client, Host};

const COUNT: usize = 10_000;

/// C4 as well: those that are open are served while there is no room for more, and there is again later.
#[test]
fn ten_thousand_are_served() {
    if !may_open(COUNT as u64 + 1000) {
        eprintln!("skipped: this process may not open {COUNT} descriptors");
        return;
    }
    let max_requests = COUNT.to_string();
    let host = Host::serve(&["tcp://127.0.0.1:0", "--concurrency", "async", "--max-requests", &max_requests]);
    let clients: Vec<Client> = (0..COUNT).map(|_| host.connect()).collect();
    for (number, client) in clients.iter().enumerate() {
        let data = number.to_string().into_bytes();
        client.send(&data);
        assert_eq!(client.recv_exact(data.len()), data);
    }
    let waiting = host.connect();
    waiting.send(b"later");
    host.log.wait_for("10000 requests are open, the most allowed");
    for client in clients {
        assert_eq!(client.exchange(b"again"), b"again");
    }
    assert_eq!(waiting.recv_exact(5), b"later");
}

/// O9: of requests that have ended nothing is kept, neither threads nor memory.
#[test]
fn ten_thousand_requests_leave_nothing_behind() {
    const CLIENTS: usize = 4;
    let host = Host::serve(&["tcp://127.0.0.1:0", "--concurrency", "threading"]);
    let ask = |count: usize| {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| (0..count / CLIENTS).for_each(|_| assert_eq!(host.ask(b"a"), b"a")));
            }
        });
    };
    assert_eq!(host.ask(b"a"), b"a");
    let resources = host.resources();
    ask(1000);
    let memory = host.memory();
    ask(COUNT);
    host.wait_for_resources(&resources);
    let grown = host.memory().saturating_sub(memory);
    assert!(grown < memory / 20 + (4 << 20), "grown by {grown} bytes from {memory}");
}

fn may_open(descriptors: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.is_none_or(|current| current >= descriptors)
}
