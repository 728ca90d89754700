//! `--user`: whom the host becomes, and with it every process that it starts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::process::Pid;

use crate::harness::{Host, for_each_strategy, plugin, plugsock, run, with_descendants};

/// Ids that nobody has, so that nothing is there that they could use.
const USER: u32 = 12_345;
const GROUP: u32 = 54_321;

/// No thread of any process keeps an id, a group or a capability of root's.
#[test]
fn another_user_has_no_way_back_to_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    for_each_strategy(|strategy| {
        let (users, roots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        chown(users.path(), Some(USER), Some(GROUP)).unwrap();
        let address = |directory: &Path| format!("unix://{}", directory.join("socket").display());
        let addresses = ["tcp://127.0.0.1:0", &address(users.path()), &address(roots.path())];
        let control = users.path().join("control").display().to_string();
        let user = format!("{USER}:{GROUP}");
        let rest = ["--user", &user, "--control", &control, "--concurrency", strategy];
        let mut host = Host::serve(&[&addresses[..], &rest].concat());
        let open = host.greeted();
        let processes = with_descendants(host.pid());
        // For each of three addresses a fork server, and a child for the client.
        assert_eq!(processes.len(), if strategy == "forking" { 1 + 3 + 1 } else { 1 });
        for process in processes {
            has_given_up_root(process);
        }
        assert_eq!(open.exchange(b"b"), b"b");
        assert_eq!(host.ctl(&["--control", &control, "status"]).code, Some(0));
        assert!(host.terminate().success());
        // It could remove what is in its own directory alone, and the next server replaces the rest.
        assert_eq!(fs::read_dir(&users).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&roots).unwrap().count(), 2);
        let mut next = Host::serve(&[address(roots.path())]);
        assert_eq!(next.ask(b"hello"), b"hello");
        assert!(next.terminate().success());
        assert_eq!(fs::read_dir(&roots).unwrap().count(), 0);
    });
}

/// Handlers are loaded, compiled and kept by whom they are served by, at the start and at a swap; root reads none.
#[test]
fn handlers_are_loaded_by_the_user_that_serves_them() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    for_each_strategy(|strategy| {
        let [cache, runtime, roots] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        [&cache, &runtime].iter().for_each(|own| chown(own.path(), Some(USER), Some(GROUP)).unwrap());
        let control = runtime.path().join("control").display().to_string();
        let user = format!("{USER}:{GROUP}");
        let directory = cache.path().display().to_string();
        let args =
            ["--user", &user, "--cache-dir", &directory, "--control", &control, "--concurrency", strategy];
        let mut host = Host::serve(&[&["tcp://127.0.0.1:0", &plugin("echo")][..], &args].concat());
        let kept = || -> Vec<u32> {
            fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().metadata().unwrap().uid()).collect()
        };
        assert_eq!(kept(), [USER]);
        assert_eq!(host.ctl(&["--control", &control, "swap", &plugin("upper")]).code, Some(0));
        assert_eq!(kept(), [USER; 2]);
        assert_eq!(host.ask(b"hello"), b"HELLO");
        assert!(host.terminate().success());
        assert!(!host.log.text().contains("not kept"), "{}", host.log.text());
        // What root alone may read is no handler of this user's, and nothing stays of the address.
        let secret = roots.path().join("secret.wasm");
        fs::copy(plugin("echo"), &secret).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&roots, fs::Permissions::from_mode(0o755)).unwrap();
        let address = format!("unix://{}", runtime.path().join("socket").display());
        let refused = run(plugsock().args(["serve", &address]).arg(&secret).args(args));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.stderr.contains("cannot read handler") && refused.stderr.contains("denied"),
            "{refused:?}"
        );
        assert_eq!(fs::read_dir(&runtime).unwrap().count(), 0, "something is left of {address}");
    });
}

fn has_given_up_root(process: Pid) {
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_pid())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| -> Vec<&str> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().collect()
        };
        // Real, effective, saved, and that of file accesses.
        assert_eq!(field("Uid:"), [&*USER.to_string(); 4], "{status}");
        assert_eq!(field("Gid:"), [&*GROUP.to_string(); 4], "{status}");
        assert_eq!(field("Groups:"), [&*GROUP.to_string()], "{status}");
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(capabilities), ["0000000000000000"], "{status}");
        }
    }
}
