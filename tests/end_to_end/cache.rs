//! Compiled handlers are kept, and nothing that somebody else could have written is ever loaded.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Host, guest, plugin, plugsock, run};

const TCP: &str = "tcp://127.0.0.1:0";

/// A cache of one test.
struct Cache(TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    /// Serves one request of a handler; the host's log.
    fn serve(&self, handler: &str) -> String {
        serve(&self.directory(), handler)
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The one entry, after one handler was served.
    fn entry(&self) -> PathBuf {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

fn serve(cache: &Path, handler: &str) -> String {
    let mut host = Host::serve(&[TCP, handler, "--cache-dir", &cache.display().to_string()]);
    assert_ne!(host.ask(b"hello"), b"");
    assert!(host.terminate().success());
    host.log.text()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn the_second_start_does_not_compile() {
    let cache = Cache::new();
    cache.serve(&plugin("echo"));
    let entry = cache.entry();
    let first = inode(&entry);
    assert!(!cache.serve(&plugin("echo")).contains("cache"));
    assert_eq!((cache.entry(), inode(&entry)), (entry.clone(), first));
}

#[test]
fn what_is_kept_is_private() {
    let cache = Cache::new();
    cache.serve(&plugin("echo"));
    for (path, mode) in [(cache.directory(), 0o700), (cache.entry(), 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, mode);
    }
}

#[test]
fn it_is_below_the_users_cache_directory_by_default() {
    let home = tempfile::tempdir().unwrap();
    for (variable, below) in [("XDG_CACHE_HOME", ""), ("HOME", ".cache")] {
        let cache = home.path().join(below).join("plugsock");
        let mut command = plugsock();
        command.env_remove("XDG_CACHE_HOME").env(variable, home.path());
        // `check` compiles as `serve` does, and ends by itself.
        assert_eq!(run(command.args(["check", &plugin("echo")])).code, Some(0));
        assert_eq!(fs::read_dir(cache).unwrap().count(), 1, "{variable}");
    }
}

/// S2, S3: an entry that is not as it was written is ignored, said, and written anew.
fn is_not_believed(tamper: impl FnOnce(&Path)) {
    let cache = Cache::new();
    cache.serve(&plugin("echo"));
    let (entry, good) = (cache.entry(), fs::read(cache.entry()).unwrap());
    tamper(&entry);
    let tampered = inode(&entry);
    let log = cache.serve(&plugin("echo"));
    assert!(log.contains("is ignored"), "{log}");
    assert_ne!(inode(&entry), tampered, "the entry was not written anew");
    let metadata = fs::symlink_metadata(&entry).unwrap();
    assert!(metadata.is_file() && metadata.mode() & 0o777 == 0o600);
    assert_eq!(fs::read(&entry).unwrap().len(), good.len());
    assert!(!cache.serve(&plugin("echo")).contains("is ignored"));
}

fn change(entry: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(entry).unwrap();
    change(&mut bytes);
    fs::write(entry, bytes).unwrap();
}

#[test]
fn a_truncated_entry_is_not_believed() {
    is_not_believed(|entry| change(entry, |bytes| bytes.truncate(bytes.len() / 2)));
    is_not_believed(|entry| change(entry, Vec::clear));
    is_not_believed(|entry| change(entry, |bytes| bytes.truncate(8)));
}

#[test]
fn an_entry_with_one_wrong_bit_is_not_believed() {
    for at in [0, 10, 1000] {
        is_not_believed(|entry| change(entry, |bytes| bytes[at] ^= 1));
    }
    is_not_believed(|entry| change(entry, |bytes| *bytes.last_mut().unwrap() ^= 0x80));
}

#[test]
fn an_entry_that_others_can_write_is_not_believed() {
    for mode in [0o620, 0o602] {
        is_not_believed(|entry| fs::set_permissions(entry, Permissions::from_mode(mode)).unwrap());
    }
}

#[test]
fn an_entry_of_another_user_is_not_believed() {
    if !is_root() {
        return;
    }
    is_not_believed(|entry| chown(entry, Some(12_345), None).unwrap());
}

#[test]
fn an_entry_under_another_name_is_not_believed() {
    let other = Cache::new();
    other.serve(&guest("phases"));
    is_not_believed(|entry| fs::copy(other.entry(), entry).map(drop).unwrap());
}

#[test]
fn a_link_to_an_entry_is_not_believed() {
    is_not_believed(|entry| {
        let elsewhere = entry.with_extension("moved");
        fs::rename(entry, &elsewhere).unwrap();
        symlink(&elsewhere, entry).unwrap();
    });
}

/// S3: served all the same, with a warning, and nothing is written there.
fn is_done_without(directory: &Path) {
    let log = serve(directory, &plugin("echo"));
    assert!(log.contains("WARN") && log.contains("compiled handlers are not kept"), "{log}");
    assert!(log.contains(&directory.display().to_string()), "{log}");
    if directory.is_dir() {
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_that_cannot_be_trusted_or_used_is_done_without() {
    let root = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    for mode in [0o770, 0o707, 0o1777] {
        let open = directory(&format!("{mode:o}"));
        fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
        is_done_without(&open);
    }
    let link = root.path().join("link");
    symlink(directory("target"), &link).unwrap();
    is_done_without(&link);
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    is_done_without(&file);
    is_done_without(&file.join("below"));
    is_done_without(Path::new("/proc/plugsock"));
    if is_root() {
        let foreign = directory("foreign");
        chown(&foreign, Some(12_345), None).unwrap();
        is_done_without(&foreign);
    }
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut command = plugsock();
    command.env("XDG_CACHE_HOME", home.path()).env("HOME", home.path());
    let mut host = Host::serve_by(command, &[TCP, "--no-cache"]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(host.terminate().success());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_was_used_longest_ago_goes_when_it_grows_too_large() {
    let cache = Cache::new();
    cache.serve(&plugin("echo"));
    let echo = cache.entry();
    let size = fs::metadata(&echo).unwrap().len().to_string();
    let directory = cache.directory().display().to_string();
    Host::serve(&[TCP, &guest("phases"), "--cache-dir", &directory, "--cache-size", &size]);
    assert!(!echo.exists());
    assert_eq!(cache.entries().len(), 1);
}

/// O12: a host that was killed while it wrote.
#[test]
fn half_written_files_are_cleaned_up() {
    let cache = Cache::new();
    cache.serve(&plugin("echo"));
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let partial = |pid: u32| cache.directory().join(format!("partial-{pid}-abcdef"));
    let (abandoned, in_use) = (partial(dead.id()), partial(std::process::id()));
    for path in [&abandoned, &in_use] {
        fs::write(path, "half").unwrap();
    }
    cache.serve(&plugin("echo"));
    assert!(!abandoned.exists());
    assert!(in_use.exists(), "another host was still writing it");
}

/// S1
#[test]
fn a_precompiled_component_is_no_handler() {
    let cache = Cache::new();
    cache.serve(&plugin("echo"));
    let entry = fs::read(cache.entry()).unwrap();
    let code = entry.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handler.wasm");
    for bytes in [&entry[..], &entry[code..]] {
        fs::write(&path, bytes).unwrap();
        let ended = run(plugsock().args(["serve", TCP]).arg(&path));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("cannot serve handler") && ended.stderr.lines().count() == 1,
            "{ended:?}"
        );
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can give files away");
    }
    is_root
}
