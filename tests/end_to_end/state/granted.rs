//! What handlers may do with stores, and what not.

use crate::harness::{Client, Host, for_each_strategy, guest, plugin, plugsock, run};

use super::{TCP, answer, answers, directory, file, in_file, serve};

#[test]
fn nothing_is_granted_by_default() {
    for_each_strategy(|strategy| {
        let host = serve(&["--concurrency", strategy]);
        assert_eq!(answer(&host, "counts open"), "error the server grants no store of this name");
        let host = serve(&["--concurrency", strategy, "--state", "other=memory"]);
        assert_eq!(
            answers(&host, &["counts get a", "other get a"]),
            ["error the server grants no store of this name", "none"]
        );
    });
}

#[test]
fn a_store_is_read_only_where_it_is_granted_so() {
    for_each_strategy(|strategy| {
        let directory = directory();
        let file = file(directory.path());
        let host = serve(&[
            "--concurrency",
            strategy,
            "--state",
            &format!("all={file}"),
            "--state",
            &format!("read:ro={file}"),
        ]);
        let denied = "error the server grants the store for reading only";
        for (line, expected) in [
            ("all set a 1", "set"),
            ("read get a", "1"),
            ("read exists a", "true"),
            ("read keys a", "a"),
            ("read get-many a b", "1 none"),
            ("read set a 2", denied),
            ("read delete a", denied),
            ("read increment a 1", denied),
            ("read swap a 1 2", denied),
            ("read set-many a=2", denied),
            ("read delete-many a", denied),
            ("all get a", "1"),
        ] {
            assert_eq!(answer(&host, line), expected, "{strategy}: {line}");
        }
    });
}

/// Each handler has stores of its own, and those that two name are one.
#[test]
fn handlers_share_what_they_both_name() {
    let directory = directory();
    let path = directory.path().join("plugsock.toml");
    let counter = plugin("counter");
    let text = format!(
        "[[server]]\naddress = '{TCP}'\nhandler = 'one'\n[[server]]\naddress = '{TCP}'\nhandler = 'two'\n\
         [[server]]\naddress = '{TCP}'\nhandler = 'three'\n\
         [handler.one]\nfile = '{counter}'\nstate = ['counts=file:counts.db']\n\
         [handler.two]\nfile = '{counter}'\nstate = ['counts=file:./counts.db']\n\
         [handler.three]\nfile = '{counter}'\nstate = ['counts=memory']\n"
    );
    std::fs::write(&path, text).unwrap();
    let host = Host::serve_sockets(plugsock(), 3, &["--config", path.to_str().unwrap()]);
    let ask = |number: usize| Client::ask(&host.addresses[number], b"tea\n");
    assert_eq!([ask(0), ask(1), ask(0), ask(2)], [&b"tea 1\n"[..], b"tea 2\n", b"tea 3\n", b"tea 1\n"]);
    assert!(directory.path().join("counts.db").exists());
}

#[test]
fn what_cannot_be_opened_ends_the_start_with_the_reason() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(
        at("text.db"),
        "this is no database, but a text that is long enough to be looked at".repeat(10),
    )
    .unwrap();
    for (grant, reason) in [
        (format!("a=file:{}", at("none/a.db")), "No such file or directory"),
        (format!("a=file:{}", directory.path().display()), "directory"),
        (format!("a=file:{}", at("text.db")), "it is no database"),
        ("a=file:/dev/null".to_owned(), "it is no regular file"),
        ("a=nowhere".to_owned(), "write memory, file:PATH"),
        ("memory".to_owned(), "write NAME=URL"),
    ] {
        let ended = run(plugsock().args(["serve", TCP, &guest("state"), "--state", &grant]));
        assert_eq!(ended.code, Some(if grant.contains("file:") { 1 } else { 2 }), "{ended:?}");
        assert!(ended.stderr.contains("--state") && ended.stderr.contains(reason), "{ended:?}");
    }
    let twice =
        run(plugsock().args(["serve", TCP, &guest("state"), "--state", "a=memory", "--state", "a=memory"]));
    assert!(twice.stderr.contains("stands for another store already"), "{twice:?}");
}

/// A handler that keeps none has no import for it, and one that does says so.
#[test]
fn a_check_says_who_keeps_state() {
    let check = |args: &[&str]| run(plugsock().arg("check").args(args)).stdout;
    assert!(!check(&[&plugin("upper")]).contains("wasi:keyvalue"));
    let counter = plugin("counter");
    let lines = |text: String| -> Vec<String> {
        text.lines().filter(|line| line.contains("wasi:keyvalue")).map(str::to_owned).collect()
    };
    let denied = lines(check(&[&counter]));
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied.iter().all(|line| line.contains("denied: no --state")), "{denied:?}");
    let granted = lines(check(&[&counter, "--state", "counts=memory"]));
    assert!(granted.iter().all(|line| !line.contains("denied")), "{granted:?}");
}

#[test]
fn limits_are_errors_to_the_handler_that_say_which() {
    for_each_strategy(|strategy| {
        let directory = directory();
        for grant in ["counts=memory", &in_file(directory.path())] {
            let host = serve(&[
                "--concurrency",
                strategy,
                "--state",
                grant,
                "--state-key-size",
                "10",
                "--state-value-size",
                "100",
                "--state-keys",
                "3",
                "--state-size",
                "150",
            ]);
            for (line, expected) in [
                ("counts get 11*k", "error the key has 11 bytes, and may have no more than 10"),
                ("counts set a 101*v", "error the value has 101 bytes, and may have no more than 100"),
                ("counts set a 100*v", "set"),
                ("counts set b 100*v", "error the store has 101 bytes, and may have no more than 150"),
                ("counts set b 1", "set"),
                ("counts set c 1", "set"),
                ("counts increment d 1", "error the store has 3 keys, and may have no more"),
                ("counts swap d none 1", "error the store has 3 keys, and may have no more"),
                ("counts set a 1*v", "set"),
                ("counts delete a", "deleted"),
                ("counts increment d 1", "1"),
            ] {
                assert_eq!(answer(&host, line), expected, "{strategy} {grant}: {line}");
            }
        }
        let host = serve(&["--concurrency", strategy, "--state", "counts=memory", "--state-rate", "5/h"]);
        let answers = answers(&host, &["counts get a"; 3]);
        assert_eq!(answers[..2], ["none", "none"]);
        assert_eq!(answers[2], "error the handler may ask for state no more often than 5/h", "{strategy}");
    });
}

#[test]
fn operations_are_counted_by_their_outcome() {
    let args =
        [TCP, &guest("state"), "--state", "counts=memory", "--state-value-size", "10", "--metrics", TCP];
    let host = Host::serve_sockets(plugsock(), 1, &args);
    let line = host.line();
    let metrics = line.strip_prefix("metrics ").unwrap().trim_end().parse().unwrap();
    answers(&host, &["counts set a 1", "counts set a 11*v", "counts swap a 2 3", "counts increment a 1"]);
    let scraped = Client::ask(&metrics, b"GET /metrics HTTP/1.0\r\n\r\n");
    let scraped = String::from_utf8(scraped).unwrap();
    for (operation, outcome) in [("open", "ok"), ("set", "ok"), ("set", "limit"), ("increment", "ok")] {
        let sample = format!(
            "plugsock_state_operations_total{{store=\"counts\",operation=\"{operation}\",outcome=\"{outcome}\"}}"
        );
        assert!(scraped.contains(&sample), "{sample} in\n{scraped}");
    }
}
