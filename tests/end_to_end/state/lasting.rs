//! How long state lasts: beyond requests, swaps, reloads, upgrades, and deaths.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rustix::process::Signal;

use crate::harness::{Client, Host, for_each_strategy, is_long_run, plugin, plugsock, run};
use crate::upgrade::{end, upgrade};

use super::{TCP, answer, answers, directory, file, in_file, serve, serve_by};

#[test]
fn what_is_in_memory_outlives_swaps_and_reloads() {
    for_each_strategy(|strategy| {
        let host =
            Host::serve(&[TCP, &plugin("counter"), "--state", "counts=memory", "--concurrency", strategy]);
        assert_eq!(host.ask(b"tea\n"), b"tea 1\n");
        let swapped = host.ctl(&["swap", &plugin("upper")]);
        assert_eq!(swapped.code, Some(0), "{swapped:?}");
        assert_eq!(host.ask(b"tea\n"), b"TEA\n");
        assert_eq!(host.ctl(&["swap", &plugin("counter")]).code, Some(0));
        assert_eq!(host.ask(b"tea\n"), b"tea 2\n", "{strategy}");
    });
}

/// Also where it is what the handler may do that changes.
#[test]
fn what_is_in_memory_outlives_other_grants() {
    let directory = directory();
    let path = directory.path().join("plugsock.toml");
    let write = |more: &str| {
        let text = format!(
            "[[server]]\naddress = '{TCP}'\n[handler.a]\nfile = '{}'\nstate = ['counts=memory']\n{more}",
            plugin("counter")
        );
        std::fs::write(&path, text).unwrap();
    };
    write("");
    let host = Host::serve_sockets(plugsock(), 1, &["--config", path.to_str().unwrap()]);
    assert_eq!(host.ask(b"tea\n"), b"tea 1\n");
    write("env = ['A=B']\n");
    let reloaded = host.ctl(&["reload"]);
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert_eq!(host.ask(b"tea\n"), b"tea 2\n");
}

#[test]
fn what_is_in_a_file_outlives_the_host() {
    for_each_strategy(|strategy| {
        let directory = directory();
        for count in 1..=2 {
            let mut host = serve_by(strategy, &in_file(directory.path()));
            assert_eq!(answer(&host, "counts increment a 1"), count.to_string(), "{strategy}");
            assert_eq!(host.terminate().code(), Some(0));
        }
    });
}

/// Clients count as fast as they can until the host is killed, again and again: what they were told of is there.
#[test]
fn no_acknowledged_write_is_lost_when_the_host_is_killed() {
    let directory = directory();
    let kills = if is_long_run() { 100 } else { 20 };
    let mut told = [0_u64; 4];
    for kill in 0..kills {
        let strategy = ["threading", "async", "forking", "pool", "sync"][kill % 5];
        let host = serve_by(strategy, &in_file(directory.path()));
        for (number, told) in told.iter().enumerate() {
            let found: u64 = answer(&host, &format!("counts increment k{number} 0")).parse().unwrap();
            assert!(found >= *told, "{found} of {told} are there after kill {kill}, {strategy}");
        }
        // One strategy serves one client at a time.
        let clients = if strategy == "sync" { 1 } else { told.len() };
        told = thread::scope(|scope| {
            let counting: Vec<_> = (0..told.len())
                .map(|number| {
                    let (before, host) = (told[number], &host);
                    scope.spawn(move || if number < clients { count(host, number) } else { 0 }.max(before))
                })
                .collect();
            // Not at once, so that writes are under way.
            let first = Client::connect(host.address());
            drop(first);
            while !std::fs::metadata(directory.path().join("counts.db-wal")).is_ok_and(|wal| wal.len() > 0) {
                thread::yield_now();
            }
            thread::sleep(std::time::Duration::from_millis(20 + 7 * (kill as u64 % 10)));
            host.signal(Signal::KILL);
            counting.into_iter().map(|count| count.join().unwrap()).collect::<Vec<_>>()
        })
        .try_into()
        .unwrap();
        host.wait_for_exit();
    }
    assert!(told.iter().all(|told| *told > 0), "{told:?}");
}

/// Counts until the host is gone; what it was told last.
fn count(host: &Host, number: usize) -> u64 {
    use std::io::{BufRead, BufReader, Write};
    let Ok(client) = Client::try_connect(host.address()) else { return 0 };
    let mut answers = BufReader::new(&client.socket);
    let mut told = 0;
    loop {
        let mut line = String::new();
        let asked = writeln!(&client.socket, "counts increment k{number} 1");
        if asked.is_err() || !answers.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            return told;
        }
        told = line.trim_end().parse().unwrap_or_else(|_| panic!("{line}"));
    }
}

/// Several hosts have a file open at once, and write at once.
#[test]
fn hosts_share_a_file() {
    let directory = directory();
    let hosts =
        ["threading", "forking", "async"].map(|strategy| serve_by(strategy, &in_file(directory.path())));
    thread::scope(|scope| {
        for host in &hosts {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(answers(host, &["counts increment a 1"; 50]).len(), 50));
            }
        }
    });
    assert_eq!(answer(&hosts[0], "counts get a"), "600");
}

/// Whoever of the two is asked: while both serve there is one store, and nothing that is counted meanwhile is lost.
#[test]
fn an_upgrade_takes_what_is_in_memory_over() {
    for_each_strategy(|strategy| {
        let host = serve_by(strategy, "counts=memory");
        let large = "counts set large 900000*x";
        assert_eq!(answers(&host, &[large, "counts fill 2500", "counts increment a 1"]), ["set", "set", "1"]);
        // With `sync` an open request would keep the old process from all others.
        let open = (strategy != "sync").then(|| host.connect());
        let mut count = 1;
        let mut ask_the_old = || {
            let Some(open) = &open else { return };
            count += 1;
            open.send(b"counts increment a 1\n");
            let answer = format!("{count}\n");
            assert_eq!(open.recv_exact(answer.len()), answer.as_bytes(), "{strategy}");
        };
        ask_the_old();
        let is_over = AtomicBool::new(false);
        let (successor, counted) = thread::scope(|scope| {
            let counting: Vec<_> = (0..4)
                .map(|number| {
                    let (host, is_over) = (&host, &is_over);
                    scope.spawn(move || {
                        let mut counted = 0_u64;
                        while !is_over.load(SeqCst) {
                            counted += 1;
                            let told = answer(host, &format!("counts increment k{number} 1"));
                            assert_eq!(told, counted.to_string(), "{strategy}");
                        }
                        counted
                    })
                })
                .collect();
            let successor = upgrade(&host);
            is_over.store(true, SeqCst);
            (successor, counting.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>())
        });
        ask_the_old();
        ask_the_old();
        let last = answer(&host, "counts increment a 0");
        assert_eq!(last, if open.is_some() { "4" } else { "1" }, "{strategy}");
        for (number, counted) in counted.iter().enumerate() {
            assert_eq!(answer(&host, &format!("counts get k{number}")), counted.to_string(), "{strategy}");
        }
        assert_eq!(answer(&host, "counts get large").len(), 900_000);
        drop(open);
        host.wait_for_exit();
        assert_eq!(answer(&host, "counts keys").parse::<usize>().unwrap(), 2502 + counted.len());
        end(host, successor);
    });
}

#[test]
fn an_upgrade_takes_the_file_over() {
    for_each_strategy(|strategy| {
        let directory = directory();
        let host = serve_by(strategy, &in_file(directory.path()));
        // With `sync` an open request would keep the old process from all others.
        let client = (strategy != "sync").then(|| host.connect());
        let ask = |count: &[u8]| {
            let Some(client) = &client else { return };
            client.send(b"counts increment a 1\n");
            assert_eq!(client.recv_exact(2), count, "{strategy}");
        };
        ask(b"1\n");
        let successor = upgrade(&host);
        // Both have it open now.
        ask(b"2\n");
        let new = if client.is_some() { "3" } else { "1" };
        assert_eq!(answer(&host, "counts increment a 1"), new, "{strategy}");
        ask(b"4\n");
        drop(client);
        end(host, successor);
    });
}

/// So whoever stops a server and copies the file has all of it.
#[test]
fn what_has_ended_leaves_all_in_the_file() {
    for_each_strategy(|strategy| {
        let directory = directory();
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut host = serve_by(strategy, &in_file(directory.path()));
        assert_eq!(answer(&host, "counts increment a 1"), "1");
        assert!(files() > 1, "it is open");
        assert!(host.terminate().success());
        assert_eq!(files(), 1, "{strategy}");
        let set = run(plugsock().args(["state", "set", &file(directory.path()), "a", "41"]));
        assert_eq!((set.code, files()), (Some(0), 1), "{set:?}");
        let host = serve_by(strategy, &in_file(directory.path()));
        assert_eq!(answer(&host, "counts increment a 1"), "42");
    });
}

/// Nobody is told that it is written what nobody could find again.
#[test]
fn a_file_that_was_moved_is_written_no_more() {
    let directory = directory();
    let (path, elsewhere) = (directory.path().join("counts.db"), directory.path().join("elsewhere.db"));
    let host = serve(&["--state", &in_file(directory.path())]);
    assert_eq!(answer(&host, "counts increment a 1"), "1");
    let moved =
        "error its file was moved or removed while it was open: put it back, or start the server anew";
    std::fs::rename(&path, &elsewhere).unwrap();
    assert_eq!(answers(&host, &["counts increment a 1", "counts set b 1"]), [moved, moved]);
    std::fs::write(&path, "").unwrap();
    assert_eq!(answer(&host, "counts increment a 1"), moved);
    std::fs::rename(&elsewhere, &path).unwrap();
    assert_eq!(answer(&host, "counts increment a 1"), "2");
    // The log has it once, however often it fails.
    assert_eq!(host.log.wait_for_count("state counts: its file was moved", 1).len(), 1);
}
