//! `--watch`: a handler's file is loaded again whichever way it is replaced, and never half.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Deployed, Host, is_installed, plugsock, replace, versioned};

const SWAPPED: &str = ": swapped: ";

fn watch(file: &Path) -> Host {
    Host::serve(&["tcp://127.0.0.1:0", &file.display().to_string(), "--watch"])
}

/// Waits until so many swaps are said to be done, and sees who serves.
fn serves(host: &Host, swaps: usize, name: &str) {
    host.log.wait_for_count(SWAPPED, swaps);
    let answer = host.ask(b"who?\n");
    assert_eq!(String::from_utf8_lossy(&answer), format!("{name} who?\n"));
}

#[test]
fn a_file_renamed_over_it() {
    let deployed = Deployed::new(&versioned("one"));
    let host = watch(&deployed.file);
    for (swaps, name) in [(1, "two"), (2, "six"), (3, "one")] {
        deployed.replace(&versioned(name));
        serves(&host, swaps, name);
    }
    // What else happens beside it is no change.
    fs::write(deployed.directory().join("other"), "").unwrap();
    deployed.replace(b"not a component");
    host.log.wait_for("it is not WebAssembly");
    assert_eq!(host.log.lines_with(SWAPPED).len(), 3);
    deployed.replace(&versioned("two"));
    serves(&host, 4, "two");
}

/// Slower than what passes for the end of it, if only the time is looked at.
#[test]
fn a_file_written_in_place_and_in_pieces() {
    const PIECES: usize = 5;
    let deployed = Deployed::new(&versioned("one"));
    let host = watch(&deployed.file);
    for (swaps, name) in [(1, "two"), (2, "six")] {
        let component = versioned(name);
        let mut file = File::create(&deployed.file).unwrap();
        for piece in component.chunks(component.len().div_ceil(PIECES)) {
            file.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(250));
        }
        drop(file);
        serves(&host, swaps, name);
    }
    // Whole or not at all: nothing else was ever loaded, and where the system tells whether a file is being
    // written, nothing else was tried.
    assert_eq!(host.log.lines_with(SWAPPED).len(), 2);
    let refused = host.log.lines_with("not swapped: ");
    assert!(refused.iter().all(|line| line.contains("cannot serve handler")), "{refused:?}");
}

/// Of the same length and with the time of the one before: what `rsync --inplace --times` may leave.
#[test]
fn a_file_that_looks_the_same() {
    let deployed = Deployed::new(&versioned("one"));
    let host = watch(&deployed.file);
    let modified = fs::metadata(&deployed.file).unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(&deployed.file).unwrap();
    file.write_all(&versioned("two")).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    serves(&host, 1, "two");
}

#[test]
fn a_link_that_leads_elsewhere() {
    let deployed = Deployed::new(&versioned("one"));
    let directory = deployed.directory();
    let release = |name: &str| {
        let release = directory.join(name);
        fs::create_dir(&release).unwrap();
        fs::write(release.join("handler.wasm"), versioned(name)).unwrap();
        release
    };
    let flip = |to: &Path, link: &str| {
        let beside = directory.join("link.new");
        symlink(to, &beside).unwrap();
        fs::rename(beside, directory.join(link)).unwrap();
    };
    // A link to the file, and a link to a directory in its path.
    let [one, two, six] = ["one", "two", "six"].map(release);
    flip(&one, "current");
    flip(Path::new("current/handler.wasm"), "linked.wasm");
    let host = watch(&directory.join("linked.wasm"));
    flip(&two, "current");
    serves(&host, 1, "two");
    flip(&six.join("handler.wasm"), "linked.wasm");
    serves(&host, 2, "six");
    // And what it leads to now may change as well.
    replace(&six.join("handler.wasm"), &versioned("ten"));
    serves(&host, 3, "ten");
}

#[test]
fn a_directory_that_is_replaced() {
    let deployed = Deployed::new(&versioned("one"));
    let directory = |name: &str| deployed.directory().join(name);
    let fill = |name: &str, version: &str| {
        fs::create_dir(directory(name)).unwrap();
        fs::write(directory(name).join("handler.wasm"), versioned(version)).unwrap();
    };
    fill("live", "one");
    let host = watch(&directory("live").join("handler.wasm"));
    for (swaps, name) in [(1, "two"), (2, "six")] {
        fill("next", name);
        fs::rename(directory("live"), directory(&format!("before-{name}"))).unwrap();
        fs::rename(directory("next"), directory("live")).unwrap();
        serves(&host, swaps, name);
    }
    // Gone whole, which is said, and there again.
    fs::remove_dir_all(directory("live")).unwrap();
    host.log.wait_for(
        "live/handler.wasm cannot be looked at: entity not found: what was loaded before serves on",
    );
    assert_eq!(host.ask(b"who?\n"), b"six who?\n");
    fill("live", "ten");
    serves(&host, 3, "ten");
}

#[test]
fn a_file_that_is_removed_and_put_back() {
    let deployed = Deployed::new(&versioned("one"));
    let host = watch(&deployed.file);
    for (swaps, name) in [(1, "two"), (2, "six")] {
        fs::remove_file(&deployed.file).unwrap();
        assert_eq!(host.ask(b"1\n").split_at(4).1, b"1\n");
        deployed.replace(&versioned(name));
        serves(&host, swaps, name);
    }
    fs::remove_file(&deployed.file).unwrap();
    fs::write(&deployed.file, versioned("six")).unwrap();
    host.log.wait_for("serves already");
}

/// Which the kernel does not tell of, since it happens in another directory.
#[test]
fn a_file_written_by_another_name() {
    let (deployed, elsewhere) = (Deployed::new(&versioned("one")), Deployed::new(b""));
    fs::remove_file(&elsewhere.file).unwrap();
    fs::hard_link(&deployed.file, &elsewhere.file).unwrap();
    let host = watch(&deployed.file);
    for (swaps, name) in [(1, "two"), (2, "six")] {
        fs::write(&elsewhere.file, versioned(name)).unwrap();
        serves(&host, swaps, name);
    }
}

/// Where the kernel has no more instances or watches to give, that is said, with what to raise.
#[test]
fn without_inotify_changes_are_seen_all_the_same() {
    for (limit, setting) in [
        ("max_inotify_instances", "raise fs.inotify.max_user_instances"),
        ("max_inotify_watches", "raise fs.inotify.max_user_watches"),
    ] {
        let Some(command) = with_none_of(limit) else { return };
        let deployed = Deployed::new(&versioned("one"));
        let host = Host::serve_by(command, &["tcp://127.0.0.1:0", &deployed.path(), "--watch"]);
        host.log.wait_for(setting);
        deployed.replace(&versioned("two"));
        serves(&host, 1, "two");
        // In place, by its name and by another.
        fs::write(&deployed.file, versioned("six")).unwrap();
        serves(&host, 2, "six");
    }
}

/// A `plugsock` that gets nothing of what the kernel counts by user; says so where that cannot be had.
fn with_none_of(limit: &str) -> Option<Command> {
    if !is_installed("unshare") {
        return None;
    }
    let none = format!("echo 0 > /proc/sys/user/{limit} && exec \"$0\" \"$@\"");
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &none]);
        command
    };
    if !unshare().arg("true").status().unwrap().success() {
        eprintln!("skipped: no limits for a user of one's own");
        return None;
    }
    let mut command = unshare();
    command.arg(plugsock().get_program());
    Some(command)
}

/// A directory that the user whom the host becomes may not list, and then not even enter.
#[test]
fn a_directory_that_may_not_be_read() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let deployed = Deployed::new(&versioned("one"));
    let set_mode =
        |mode| fs::set_permissions(deployed.directory(), fs::Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(&deployed.file, fs::Permissions::from_mode(0o644)).unwrap();
    set_mode(0o711);
    let user = ["--user", "12345:54321", "--no-cache", "--no-control"];
    let host = Host::serve(&[&["tcp://127.0.0.1:0", &deployed.path(), "--watch"][..], &user].concat());
    let directory = deployed.directory().display();
    host.log.wait_for(&format!("directory {directory} cannot be watched: Permission denied"));
    deployed.replace(&versioned("two"));
    serves(&host, 1, "two");
    set_mode(0o700);
    host.log.wait_for(&format!("{} cannot be looked at: permission denied", deployed.path()));
    assert_eq!(host.ask(b"who?\n"), b"two who?\n");
    set_mode(0o755);
    deployed.replace(&versioned("six"));
    serves(&host, 2, "six");
}

/// E7: the way to the file begins where the host was started, also by a path that is not absolute.
#[test]
fn the_way_to_a_file_turned_to_another_directory() {
    let directory = TempDir::new().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join("handler.wasm"), versioned(name)).unwrap();
    }
    let turn = |to: &str| {
        let beside = directory.path().join("beside");
        symlink(to, &beside).unwrap();
        fs::rename(beside, directory.path().join("current")).unwrap();
    };
    turn("one");
    let mut command = plugsock();
    command.current_dir(directory.path());
    let host = Host::serve_by(command, &["tcp://127.0.0.1:0", "current/handler.wasm", "--watch"]);
    turn("two");
    serves(&host, 1, "two");
}
