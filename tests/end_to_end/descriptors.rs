//! A host that has no more descriptors.

use std::process::Command;

use crate::harness::{Client, Host, for_each_strategy, plugsock};

/// C10: clients wait in the queue, the log says why once, and it goes on by itself.
#[test]
fn out_of_descriptors_is_survived() {
    for_each_strategy(|strategy| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""]).arg(plugsock().get_program());
        let host =
            Host::serve_by(shell, &["tcp://127.0.0.1:0", "--concurrency", strategy, "--workers", "100"]);
        let clients: Vec<Client> = (0..100).map(|_| host.connect()).collect();
        clients.iter().for_each(|client| client.send(b"a"));
        if strategy != "sync" && strategy != "forking" {
            host.log.wait_for("cannot accept: ");
        }
        // In order, since only the end of one makes room for another.
        for client in clients {
            assert_eq!(client.recv_exact(1), b"a");
            assert_eq!(client.exchange(b"b"), b"b");
        }
        assert_eq!(host.ask(b"hello"), b"hello");
        let lines = host.log.lines_with("cannot accept: ");
        assert!(lines.len() <= 2, "{lines:?}");
    });
}
