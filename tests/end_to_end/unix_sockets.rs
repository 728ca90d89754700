//! The file of a Unix socket, and who is at its other end.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use plugsock::ServerType;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{
    Case, Client, Ended, Fault, Faults, Host, Running, cache_dir, for_each_strategy, guest, is_installed,
    plugsock, run, sandbox,
};

/// A directory and a path in it that nothing has yet.
fn path() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    (directory, path)
}

fn address(scheme: &str, path: &Path) -> String {
    format!("{scheme}://{}", path.display())
}

fn serve(address: &str) -> Ended {
    run(plugsock().args(["serve", address, "--cache-dir"]).arg(cache_dir()))
}

fn is_refused(address: &str, word: &str) {
    let ended = serve(address);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(word) && ended.stderr.lines().count() == 1, "{ended:?}");
}

/// O10: nothing else is left in the directory either.
#[test]
fn the_file_goes_with_the_server() {
    for scheme in ["unix", "unixgram"] {
        let (directory, path) = path();
        let mut host = Host::serve(&[address(scheme, &path)]);
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        assert!(host.terminate().success());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "{scheme}");
    }
}

/// O10
#[test]
fn a_file_that_nothing_listens_on_is_replaced() {
    let (_directory, at) = path();
    drop(UnixListener::bind(&at).unwrap());
    assert_eq!(Host::serve(&[address("unix", &at)]).ask(b"hello"), b"hello");
    let (_directory, at) = path();
    drop(UnixDatagram::bind(&at).unwrap());
    assert_eq!(Host::serve(&[address("unixgram", &at)]).ask(b"hello"), b"hello");
    // What a killed host leaves, lock and all.
    for strategy in ["threading", "forking"] {
        let (_directory, at) = path();
        let mut killed = Host::serve(&[&address("unix", &at), "--concurrency", strategy]);
        killed.signal(Signal::KILL);
        killed.wait();
        assert!(at.exists());
        assert_eq!(Host::serve(&[address("unix", &at)]).ask(b"hello"), b"hello");
    }
}

/// O10
#[test]
fn a_living_socket_is_refused_and_lives_on() {
    for scheme in ["unix", "unixgram"] {
        let (_directory, path) = path();
        let first = Host::serve(&[address(scheme, &path)]);
        for other in ["unix", "unixgram"] {
            is_refused(&address(other, &path), "another server uses this address");
        }
        assert_eq!(first.ask(b"hello"), b"hello");
    }
    let name = format!("unix://@plugsock-test-{}-living", std::process::id());
    let first = Host::serve(&[&name]);
    is_refused(&name, "another server uses this address");
    assert_eq!(first.ask(b"hello"), b"hello");
}

/// O10: of a program that takes no lock; also while its queue is full.
#[test]
fn a_living_socket_of_another_program_is_refused() {
    let (_directory, at) = path();
    let _listener = UnixListener::bind(&at).unwrap();
    for scheme in ["unix", "unixgram"] {
        is_refused(&address(scheme, &at), "another server uses this address");
    }
    let (_directory, at) = path();
    let datagram = UnixDatagram::bind(&at).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &at).is_ok() {}
    for scheme in ["unix", "unixgram"] {
        is_refused(&address(scheme, &at), "another server uses this address");
    }
    assert_eq!(datagram.recv(&mut [0; 4]).unwrap(), 4);
}

/// O10
#[test]
fn what_is_not_a_socket_is_untouched() {
    let (directory, at) = path();
    fs::write(&at, "precious").unwrap();
    is_refused(&address("unix", &at), "not a socket");
    assert_eq!(fs::read_to_string(&at).unwrap(), "precious");
    let link = directory.path().join("link");
    symlink(&at, &link).unwrap();
    is_refused(&address("unixgram", &link), "not a socket");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let below = directory.path().join("directory");
    fs::create_dir(&below).unwrap();
    is_refused(&address("unix", &below), "not a socket");
    assert!(below.is_dir());
}

#[test]
fn the_file_gets_the_mode_and_owner_that_are_asked_for() {
    for scheme in ["unix", "unixgram"] {
        for mode in ["600", "660", "666"] {
            let (_directory, path) = path();
            let _host = Host::serve(&[&address(scheme, &path), "--mode", mode]);
            assert_eq!(format!("{:o}", fs::metadata(&path).unwrap().mode() & 0o7777), mode);
        }
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped in part: only root can give files away");
        return;
    }
    let (_directory, path) = path();
    let _host = Host::serve(&[&address("unix", &path), "--owner", "12345", "--group", "54321"]);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12_345, 54_321));
}

/// E1: whatever the umask is.
#[test]
fn the_lock_is_its_users_alone() {
    for umask in ["000", "022", "777"] {
        let (directory, path) = path();
        let control = directory.path().join("control").display().to_string();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(plugsock().get_program());
        let args = [&address("unix", &path), "--mode", "660", "--control", &control, "--no-cache"];
        let mut host = Host::serve_by(shell, &args);
        let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().mode() & 0o7777;
        assert_eq!(
            ["socket", "socket.lock", "control", "control.lock"].map(mode),
            [0o660, 0o600, 0o600, 0o600]
        );
        assert_eq!(host.ask(b"hello"), b"hello");
        assert!(host.terminate().success());
    }
    // Left by a version that made it otherwise.
    let (_directory, path) = path();
    let lock = path.with_extension("lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    let _host = Host::serve(&[address("unix", &path)]);
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o7777, 0o600);
}

/// It is named, and left as it is. The control socket's is no other.
#[test]
fn a_lock_that_is_none_is_refused() {
    let is_refused = |put: &dyn Fn(&Path, &Path), reason: &str| {
        for option in [None, Some("--control")] {
            let (directory, path) = path();
            let (lock, other) = (path.with_extension("lock"), directory.path().join("other"));
            fs::write(&other, "precious").unwrap();
            fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
            put(&lock, &other);
            let mut command = plugsock();
            command.arg("serve").arg("--cache-dir").arg(cache_dir());
            match option {
                None => command.arg(address("unix", &path)),
                Some(option) => command.args(["tcp://127.0.0.1:0", option]).arg(&path),
            };
            let ended = run(&mut command);
            let named = format!("the lock file {} {reason}", lock.display());
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains(&named) && ended.stderr.lines().count() == 1, "{ended:?}");
            assert!(ended.stderr.contains("remove it if no server uses it"), "{ended:?}");
            assert!(fs::symlink_metadata(&lock).is_ok() && !path.exists());
            let untouched = fs::metadata(&other).unwrap();
            assert_eq!((untouched.mode() & 0o7777, untouched.len()), (0o644, 8));
        }
    };
    is_refused(&|lock, other| symlink(other, lock).unwrap(), "is a symbolic link");
    is_refused(&|lock, _| symlink("nowhere", lock).unwrap(), "is a symbolic link");
    is_refused(&|lock, other| fs::hard_link(other, lock).unwrap(), "has other names too");
    is_refused(&|lock, _| fs::create_dir(lock).unwrap(), "belongs to user");
    let pipe = |lock: &Path, _: &Path| {
        assert!(Command::new("mkfifo").arg(lock).status().unwrap().success());
    };
    is_refused(&pipe, "is no regular file");
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped in part: only root can give files away");
        return;
    }
    let another = |lock: &Path, _: &Path| {
        fs::write(lock, "").unwrap();
        chown(lock, Some(12_345), None).unwrap();
    };
    is_refused(&another, "belongs to user 12345");
}

/// Where everybody may make files and remove only his own.
#[test]
fn what_another_user_left_is_named() {
    if !rustix::process::geteuid().is_root() || !is_installed("setpriv") {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (directory, path) = path();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
    let is_refused = |reason: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "12345", "--regid", "12345", "--clear-groups"]);
        command.arg(plugsock().get_program()).args(["serve", &address("unix", &path), "--no-cache"]);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(reason) && ended.stderr.lines().count() == 1, "{ended:?}");
    };
    let lock = path.with_extension("lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o600)).unwrap();
    is_refused(&format!(
        "the lock file {} belongs to user 0 and cannot be opened: Permission denied",
        lock.display()
    ));
    fs::remove_file(&lock).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    is_refused("which a dead server of user 0 left, cannot be removed: Operation not permitted");
}

/// What somebody puts in the place of the file while it is made keeps its mode and owner.
#[test]
fn a_link_in_the_place_of_the_file_is_not_followed() {
    for option in [["--mode", "666"], ["--owner", "12345"], ["--group", "12345"]] {
        let Some((faults, mut command)) = Faults::command() else { return };
        faults.set(Fault::ReplacesSockets, 1);
        let (_directory, path) = path();
        let victim = path.with_extension("victim");
        fs::write(&victim, "precious").unwrap();
        let before = fs::metadata(&victim).unwrap();
        command.args(["serve", &address("unix", &path), "--no-control", "--no-cache"]).args(option);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("something else was put in the place of its file"), "{ended:?}");
        let after = fs::metadata(&victim).unwrap();
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    }
}

/// C9
#[test]
fn a_handler_learns_from_the_kernel_who_its_client_is() {
    let me = format!(
        "pid={}\nuid={}\ngid={}\n",
        std::process::id(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    for scheme in ["unix", "unixgram"] {
        for_each_strategy(|strategy| {
            let (_directory, path) = path();
            let address = address(scheme, &path);
            let host = Host::serve(&[&address, &guest("server_info"), "--concurrency", strategy]);
            let answer = String::from_utf8(host.ask(b"")).unwrap();
            assert!(answer.ends_with(&me), "{answer}");
            assert!(answer.contains(&format!("\nconcurrency={strategy}\n")), "{answer}");
            assert!(answer.contains(&format!("\nname={address}\n")), "{answer}");
        });
    }
}

/// G15
#[test]
fn a_client_cannot_break_the_log_with_its_name() {
    let (directory, at) = path();
    let host = Host::serve(&[&address("unixgram", &at), &guest("error_in_handle")]);
    let client = UnixDatagram::bind(directory.path().join("a\nb\x1b[31m")).unwrap();
    client.send_to(b"", &at).unwrap();
    let line = host.log.wait_for("handler error");
    assert!(line.contains(r"/a\nb\x1b[31m phase="), "{line}");
    assert_eq!(host.log.text().lines().count(), 1);
}

/// Of 108 bytes, which leaves no room for the zero that ends other names.
#[test]
fn a_client_may_have_the_longest_name_there_is() {
    for server_type in [ServerType::UnixStream, ServerType::UnixDatagram] {
        for_each_strategy(|strategy| {
            let server = Running::start(Case { server_type, strategy }, sandbox().echo().unwrap());
            let directory = TempDir::new().unwrap();
            let filled = directory.path().join("x".repeat(107 - directory.path().as_os_str().len()));
            assert_eq!(filled.as_os_str().len(), 108);
            let client = Client::named(&filled, &server.address);
            assert_eq!(client.exchange(b"hello"), b"hello");
        });
    }
}
