//! A handler reaches what it was granted, and nothing else.

use std::fs;
use std::process::Command;

use crate::harness::{Host, for_each_strategy, guest, plugsock, run};

const TCP: &str = "tcp://127.0.0.1:0";

fn answer(host: &Host, request: &str) -> String {
    String::from_utf8(host.ask(request.as_bytes())).unwrap()
}

#[test]
fn nothing_is_granted_by_default() {
    let handler = guest("env_and_args");
    let host = Host::serve(&[TCP, &handler]);
    assert_eq!(answer(&host, ""), format!("arg={handler}\n"));
    let host = Host::serve(&[TCP, &guest("file_access")]);
    for request in ["read /etc/passwd\n", "list /\n", "list .\n", "write /tmp/plugsock-test x\n"] {
        assert!(answer(&host, request).starts_with("error: "), "{request}");
    }
}

#[test]
fn variables_arguments_and_directories_are_granted() {
    let directory = tempfile::tempdir().unwrap();
    let data = format!("{}::/data", directory.path().display());
    let handler = guest("env_and_args");
    let host = Host::serve(&[
        TCP,
        &handler,
        "--env",
        "COLOUR=blue",
        "--env",
        "EMPTY=",
        "--dir",
        &data,
        "--",
        "first",
        "--second",
    ]);
    let expected =
        format!("arg={handler}\narg=first\narg=--second\nenv=COLOUR=blue\nenv=EMPTY=\ndir=/data\n");
    assert_eq!(answer(&host, ""), expected);
}

/// The host's own standard input, which all requests share; what nobody was granted stays unread.
#[test]
fn standard_input_is_granted() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("input");
    fs::write(&input, "first\nsecond\n").unwrap();
    let with_input = || {
        let mut shell = Command::new("sh");
        let script = format!("exec \"$0\" \"$@\" < {}", input.display());
        shell.args(["-c", &script]).arg(plugsock().get_program());
        shell
    };
    let handler = guest("env_and_args");
    for_each_strategy(|strategy| {
        let args = [TCP, &handler, "--concurrency", strategy];
        let host = Host::serve_by(with_input(), &args);
        assert_eq!(answer(&host, ""), format!("arg={handler}\n"));
        let granted = [&args[..], &["--allow-stdin"]].concat();
        if strategy == "forking" {
            let ended = run(with_input().arg("serve").args(granted));
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("forked processes have no standard input"), "{ended:?}");
            return;
        }
        let host = Host::serve_by(with_input(), &granted);
        assert_eq!(answer(&host, ""), format!("arg={handler}\nstdin=first\nstdin=second\n"));
        assert_eq!(answer(&host, ""), format!("arg={handler}\n"));
    });
}

#[test]
fn a_granted_directory_is_open_and_its_surroundings_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "inside").unwrap();
    fs::write(directory.path().join("out"), "outside").unwrap();
    std::os::unix::fs::symlink(directory.path().join("out"), shared.join("link")).unwrap();
    let host =
        Host::serve(&[TCP, &guest("file_access"), "--dir", &format!("{}::/data:rw", shared.display())]);
    assert_eq!(answer(&host, "read /data/in\n"), "inside\n");
    assert_eq!(answer(&host, "write /data/new text\n"), "written\n");
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "text");
    assert_eq!(answer(&host, "list /data\n"), "in link new\n");
    for path in ["/data/../out", "/data/link", "../out", "/etc/passwd"] {
        assert!(answer(&host, &format!("read {path}\n")).starts_with("error: "), "{path}");
    }
}

/// By no kind of path, and by no link that it finds or makes.
#[test]
fn a_granted_directory_is_not_left() {
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "inside").unwrap();
    fs::write(directory.path().join("out"), "outside").unwrap();
    for (name, target) in [
        ("relative", "../out"),
        ("absolute", directory.path().join("out").to_str().unwrap()),
        ("above", ".."),
        ("root", "/"),
        ("process", "/proc/self"),
    ] {
        std::os::unix::fs::symlink(target, shared.join(name)).unwrap();
    }
    let grant = format!("{}::/data:rw", shared.display());
    for_each_strategy(|strategy| {
        let host = Host::serve(&[TCP, &guest("file_access"), "--dir", &grant, "--concurrency", strategy]);
        for request in [
            "read /data/../out",
            "read /data/./.././out",
            "read ../out",
            "read /data/relative",
            "read /data/absolute",
            "read /data/above/out",
            "read /data/root/etc/passwd",
            "read /data/process/environ",
            "read /proc/self/environ",
            "read /etc/passwd",
            "write /data/relative changed",
            "write /data/above/new changed",
            "list /data/above",
            "list /data/process/fd",
            "link /data/../out /data/linked",
            "link /data/relative/../../out /data/linked",
            "link /data/in /data/../linked",
            "rename /data/in /data/../in",
            "rename /data/../out /data/renamed",
        ] {
            assert!(answer(&host, &format!("{request}\n")).starts_with("error: "), "{request}");
        }
        assert_eq!(answer(&host, "read /data/in\n"), "inside\n");
    });
    assert_eq!(fs::read_to_string(directory.path().join("out")).unwrap(), "outside");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 6);
}

#[test]
fn a_directory_is_read_only_unless_granted_for_writing() {
    for option in ["", ":ro"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "as it was").unwrap();
        let data = format!("{}::/data{option}", directory.path().display());
        for_each_strategy(|strategy| {
            let host = Host::serve(&[TCP, &guest("file_access"), "--dir", &data, "--concurrency", strategy]);
            assert_eq!(answer(&host, "read /data/file\n"), "as it was\n");
            for path in ["/data/file", "/data/new"] {
                assert!(answer(&host, &format!("write {path} x\n")).starts_with("error: "), "{path}");
            }
        });
        assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), "as it was");
        assert!(!directory.path().join("new").exists());
    }
}
