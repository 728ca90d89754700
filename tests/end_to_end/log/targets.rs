//! Where the log goes, and that it keeps nobody waiting there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Host, PATIENCE, cache_dir, for_each_strategy, guest, plugsock, run, wait_until};

const TCP: &str = "tcp://127.0.0.1:0";

/// What `log_lines` prints first.
const PRINTED: &str = "a line to stdout";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_file_is_appended_to_and_opened_anew_at_a_hangup() {
    for_each_strategy(|strategy| {
        let directory = TempDir::new().unwrap();
        let (file, rotated) = (directory.path().join("log"), directory.path().join("log.1"));
        fs::write(&file, "what was there\n").unwrap();
        let target = file.to_str().unwrap();
        let host = Host::tcp("log_lines", &["--concurrency", strategy, "--log-target", target]);
        host.ask(b"");
        wait_until(|| read(&file).contains(PRINTED));
        assert!(read(&file).starts_with("what was there\n"), "{}", read(&file));

        fs::rename(&file, &rotated).unwrap();
        host.signal(Signal::HUP);
        // Said when the handler has been looked at again, which is what comes next.
        wait_until(|| read(&file).contains("serves already"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        let before = read(&rotated);
        host.ask(b"");
        wait_until(|| read(&file).contains(PRINTED));
        assert_eq!(read(&rotated), before);
        assert_eq!(host.log.text(), "");
    });
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_at_the_start_and_kept_later() {
    let ended = run(plugsock().args(["serve", TCP, "--log-target", "/no/such/directory/log"]));
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
    for word in ["/no/such/directory/log", "--log-target", "No such file or directory"] {
        assert!(ended.stderr.contains(word), "{ended:?}");
    }

    let directory = TempDir::new().unwrap();
    let (before, after) = (directory.path().join("before"), directory.path().join("after"));
    fs::create_dir(&before).unwrap();
    let target = before.join("log");
    let mut host = Host::tcp("log_lines", &["--log-target", target.to_str().unwrap()]);
    fs::rename(&before, &after).unwrap();
    host.signal(Signal::HUP);
    let log = after.join("log");
    wait_until(|| read(&log).contains("goes on in the file that it had"));
    host.ask(b"");
    assert!(host.terminate().success());
    assert!(read(&log).contains(PRINTED), "{}", read(&log));
}

/// A journal of the test's own.
struct Journal {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Journal {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory }
    }

    fn target(&self) -> String {
        format!("journald:{}", self.directory.path().join("socket").display())
    }

    /// The fields of the next entry, by the journal's native protocol.
    fn next(&self) -> BTreeMap<String, String> {
        let mut entry = vec![0; 1 << 20];
        let length = self.socket.recv(&mut entry).unwrap();
        let text = std::str::from_utf8(&entry[..length]).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        let fields = text.lines().map(|line| line.split_once('=').unwrap_or_else(|| panic!("{text:?}")));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn wait_for(&self, message: &str) -> BTreeMap<String, String> {
        loop {
            let entry = self.next();
            if entry["MESSAGE"].contains(message) {
                return entry;
            }
        }
    }
}

#[test]
fn the_journal_gets_fields() {
    for_each_strategy(|strategy| {
        let journal = Journal::start();
        let args = ["--concurrency", strategy, "--log-target", &journal.target()];
        let host = Host::tcp("log_lines", &args);
        host.ask(b"");
        let entry = journal.wait_for(PRINTED);
        for (name, value) in [
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "plugsock"),
            ("TARGET", "guest"),
            ("MESSAGE", PRINTED),
            ("PLUGSOCK_REQUEST", "1"),
            ("PLUGSOCK_STREAM", "stdout"),
        ] {
            assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name} of {entry:?}");
        }
        assert_eq!(host.ctl(&["swap", "/no/such.wasm"]).code, Some(1));
        host.signal(Signal::HUP);
        assert_eq!(journal.wait_for("serves already")["PLUGSOCK_SLOT"], "log_lines");
        assert_eq!(host.log.text(), "");
    });
}

#[test]
fn a_journal_that_does_not_read_keeps_nobody_waiting() {
    for_each_strategy(|strategy| {
        let journal = Journal::start();
        let args = ["--concurrency", strategy, "--log-level", "debug", "--log-target", &journal.target()];
        let host = Host::tcp("log_lines", &args);
        // More lines than any queue of datagrams has room for.
        for _ in 0..400 {
            assert_eq!(host.ask(b""), b"");
        }
        let reading = std::thread::scope(|scope| {
            let reading =
                scope.spawn(|| journal.wait_for("lines of the log were lost: the journal took no more"));
            while !reading.is_finished() {
                host.ask(b"");
            }
            reading.join().unwrap()
        });
        assert_eq!(reading["PRIORITY"], "4", "{reading:?}");
    });
}

#[test]
fn without_a_journal_it_is_said_what_else_there_is() {
    let ended = run(plugsock().args(["serve", TCP, "--log-target", "journald:/no/such/socket"]));
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
    for word in ["no journal listens at /no/such/socket", "--log-target stderr"] {
        assert!(ended.stderr.contains(word), "{ended:?}");
    }
    let args = ["check", &guest("log_lines"), "--log-target", "journald:/no/such/socket", "--cache-dir"];
    assert_eq!(run(plugsock().args(args).arg(cache_dir())).code, Some(1));
}
