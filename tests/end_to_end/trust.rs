//! What is loaded: one pinned component, or those that somebody trusted signed, and none that is too large.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use plugsock::{Digest, HandlerError, Sandbox, SandboxOptions, Trust};
use tempfile::TempDir;

use crate::harness::{Ended, Host, cache_dir, guest, is_installed, plugin, plugsock, run, sandbox_options};

const TCP: &str = "tcp://127.0.0.1:0";

/// Each command that loads a handler refuses it, with one line that contains all of `words`.
fn is_refused(handler: &str, args: &[&str], words: &[&str]) {
    for command in ["serve", "call", "check"] {
        let mut plugsock = plugsock();
        plugsock.args([command, handler]).args(args).arg("--cache-dir").arg(cache_dir());
        let ended = run(&mut plugsock);
        assert_eq!(ended.code, Some(1), "{command}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{command}: {ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{command}: no '{word}' in {}", ended.stderr);
        }
    }
}

/// The handler answers.
fn is_served(handler: &str, args: &[&str]) {
    let host = Host::serve(&[&[TCP, handler], args].concat());
    assert_eq!(host.ask(b"hello"), b"hello");
}

fn digest(path: &str) -> String {
    Digest::of(&fs::read(path).unwrap()).to_string()
}

/// S4: what `--watch` waits for is both, in whichever order they come.
#[test]
fn a_signature_that_comes_after_its_component_is_seen() {
    let signing = Signing::new();
    let (echo, ours) = (signing.path("echo.wasm"), signing.path("ours.pub"));
    signing.sign("ours");
    let host = Host::serve(&[TCP, &echo, "--watch", "--public-key", &ours]);
    let next = signing.path("next.wasm");
    fs::copy(plugin("upper"), &next).unwrap();
    fs::rename(&next, &echo).unwrap();
    host.log.wait_for("not swapped: ");
    assert_eq!(host.ask(b"hello"), b"hello");
    signing.sign("ours");
    host.log.wait_for(": swapped: ");
    assert_eq!(host.ask(b"hello"), b"HELLO");
}

/// S4
#[test]
fn a_pinned_digest_is_the_only_one_that_is_loaded() {
    let (right, other) = (digest(&plugin("echo")), digest(&guest("phases")));
    is_served(&plugin("echo"), &["--digest", &right]);
    is_served(&plugin("echo"), &["--digest", &right.to_uppercase().replace("SHA", "sha")]);
    is_refused(&plugin("echo"), &["--digest", &other], &["will not load handler", &right, &other]);
    for wrong in ["", "sha256:", &right[..70], &right[7..], &right.replace('a', "ä")] {
        let ended = run(plugsock().args(["serve", "--digest", wrong]));
        assert!(ended.code == Some(2) && ended.stderr.contains("64 hexadecimal"), "{wrong}: {ended:?}");
    }
}

/// S4: a swap may name another digest than the one that was pinned at the start.
#[test]
fn a_call_may_pin_another_digest() {
    let trust = Trust { digest: Some(digest(&plugin("echo")).parse().unwrap()), ..Trust::default() };
    let sandbox = Sandbox::new(SandboxOptions { trust, ..sandbox_options() }).unwrap();
    assert!(sandbox.load(plugin("echo")).is_ok());
    assert!(matches!(sandbox.load(guest("phases")), Err(HandlerError::Untrusted { .. })));
    let phases = digest(&guest("phases")).parse().unwrap();
    assert!(sandbox.load_pinned(guest("phases"), phases).is_ok());
    assert!(matches!(sandbox.load_pinned(plugin("echo"), phases), Err(HandlerError::Untrusted { .. })));
}

/// A directory with the echo handler and pairs of keys.
struct Signing(TempDir);

impl Signing {
    fn new() -> Self {
        let signing = Self(tempfile::tempdir().unwrap());
        fs::copy(plugin("echo"), signing.path("echo.wasm")).unwrap();
        for name in ["ours", "theirs"] {
            let ended = run(plugsock().args(["keygen", "--no-password", &signing.path(name)]));
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        signing
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn sign(&self, key: &str) {
        let (key, file) = (self.path(&format!("{key}.key")), self.path("echo.wasm"));
        let ended = run(plugsock().args(["sign", "--key", &key, "--comment", "first release", &file]));
        assert_eq!((ended.code, ended.stdout), (Some(0), format!("{file}.minisig\n")), "{}", ended.stderr);
    }

    fn verify(&self, key: &str) -> Ended {
        let (key, file) = (self.path(&format!("{key}.pub")), self.path("echo.wasm"));
        run(plugsock().args(["verify", "--public-key", &key, &file]))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
    }
}

/// S4
#[test]
fn where_a_key_is_given_a_signature_by_it_is_required() {
    let signing = Signing::new();
    let (echo, ours) = (signing.path("echo.wasm"), signing.path("ours.pub"));
    let key = ["--public-key", &ours];
    is_refused(&echo, &key, &["will not load handler", "a signature is required", "echo.wasm.minisig"]);
    assert_eq!(signing.verify("ours").code, Some(1));

    signing.sign("ours");
    is_served(&echo, &key);
    let text = fs::read_to_string(&ours).unwrap();
    is_served(&echo, &["--public-key", text.lines().nth(1).unwrap()]);
    is_served(&echo, &["--public-key", &signing.path("theirs.pub"), "--public-key", &ours]);
    let verified = signing.verify("ours");
    assert_eq!(verified.stdout, format!("{echo} {} first release\n", digest(&echo)));

    is_refused(&echo, &["--public-key", &signing.path("theirs.pub")], &["not valid", "by another key"]);
    signing.sign("theirs");
    is_refused(&echo, &key, &["not valid", "by another key"]);
    assert_eq!(signing.verify("ours").code, Some(1));

    signing.sign("ours");
    signing.change("echo.wasm", |bytes| *bytes.last_mut().unwrap() ^= 1);
    is_refused(&echo, &key, &["not valid", "of another file"]);
    assert_eq!(signing.verify("ours").code, Some(1));
}

/// S4
#[test]
fn a_signature_that_is_none_is_refused() {
    let signing = Signing::new();
    signing.sign("ours");
    let (echo, ours) = (signing.path("echo.wasm"), signing.path("ours.pub"));
    let signature = fs::read_to_string(signing.path("echo.wasm.minisig")).unwrap();
    let lines: Vec<&str> = signature.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n")
    };
    for wrong in [
        String::new(),
        "\n\n\n\n".to_owned(),
        lines[..3].join("\n"),
        with(0, "comment"),
        with(1, ""),
        with(1, &"A".repeat(100)),
        with(1, &"!".repeat(100)),
        with(2, "trusted comment: another"),
        with(3, "AAAA"),
        with(3, &"A".repeat(88)),
        "ä".repeat(100_000),
    ] {
        fs::write(signing.path("echo.wasm.minisig"), &wrong).unwrap();
        is_refused(&echo, &["--public-key", &ours], &["echo.wasm.minisig"]);
    }
    fs::write(signing.path("echo.wasm.minisig"), &signature).unwrap();
    is_served(&echo, &["--public-key", &ours]);
}

/// S4: a pipe can be read only once, and its second reader would wait for ever.
#[test]
fn the_bytes_checked_are_the_bytes_loaded() {
    let signing = Signing::new();
    signing.sign("ours");
    let (echo, bytes) = (signing.path("echo.wasm"), fs::read(signing.path("echo.wasm")).unwrap());
    fs::remove_file(&echo).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &*echo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let digest = Digest::of(&bytes).to_string();
    let writer = thread::spawn({
        let echo = echo.clone();
        move || fs::write(echo, bytes).unwrap()
    });
    is_served(&echo, &["--public-key", &signing.path("ours.pub"), "--digest", &digest]);
    writer.join().unwrap();
}

#[test]
fn what_is_no_file_has_no_signature() {
    let signing = Signing::new();
    let key = fs::read_to_string(signing.path("ours.pub")).unwrap().parse().unwrap();
    let trust = Trust { public_keys: vec![key], ..Trust::default() };
    let sandbox = Sandbox::new(SandboxOptions { trust, ..sandbox_options() }).unwrap();
    let bytes = fs::read(plugin("echo")).unwrap();
    assert!(matches!(sandbox.load_bytes("echo", &bytes), Err(HandlerError::Untrusted { .. })));
    // What this executable brings is trusted as it is.
    assert!(sandbox.echo().is_ok());
}

#[test]
fn keys_are_private_and_never_written_over() {
    let signing = Signing::new();
    let secret = signing.path("ours.key");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&secret).unwrap();
    let ended = run(plugsock().args(["keygen", "--no-password", &signing.path("ours")]));
    assert!(ended.code == Some(1) && ended.stderr.contains("ours.key is there already"), "{ended:?}");
    assert_eq!(fs::read(&secret).unwrap(), before);
}

#[test]
fn what_is_no_key_is_refused() {
    let signing = Signing::new();
    for wrong in ["nonsense", "/no/such/file", &signing.path("echo.wasm"), &signing.path("ours.key"), ""] {
        let ended = run(plugsock().args(["serve", "--public-key", wrong]));
        assert!(ended.code == Some(2) && ended.stderr.contains("public key"), "{wrong}: {ended:?}");
    }
    let echo = signing.path("echo.wasm");
    for wrong in ["/no/such/file", &signing.path("ours.pub"), &echo] {
        let ended = run(plugsock().args(["sign", "--key", wrong, &echo]));
        assert!(ended.code == Some(1) && ended.stderr.contains("secret key"), "{wrong}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        let is_text = wrong.ends_with(".pub");
        assert_eq!(ended.stderr.contains("`plugsock keygen` or minisign made"), is_text, "{ended:?}");
    }
}

/// Signatures and keys are those of the tool `minisign`.
#[test]
fn minisign_and_plugsock_understand_each_other() {
    if !is_installed("minisign") {
        return;
    }
    let signing = Signing::new();
    let minisign = |args: &[&str]| {
        let ended = run(Command::new("minisign").args(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    let echo = signing.path("echo.wasm");
    signing.sign("ours");
    minisign(&["-V", "-p", &signing.path("ours.pub"), "-m", &echo]);
    let (public, secret) = (signing.path("its.pub"), signing.path("its.key"));
    minisign(&["-G", "-W", "-p", &public, "-s", &secret]);
    minisign(&["-S", "-s", &secret, "-m", &echo]);
    is_served(&echo, &["--public-key", &public]);
}

/// S5: seen by its size, before it is read, and as it is read where it has none.
#[test]
fn a_component_that_is_too_large_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let large: PathBuf = directory.path().join("large.wasm");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    is_refused(&large.display().to_string(), &[], &["larger than 268435456 bytes"]);
    is_refused("/dev/zero", &["--max-component-size", "1MiB"], &["/dev/zero", "larger than 1048576 bytes"]);
    let echo = plugin("echo");
    let size = fs::metadata(Path::new(&echo)).unwrap().len();
    is_served(&echo, &["--max-component-size", &size.to_string()]);
    let less = (size - 1).to_string();
    is_refused(&echo, &["--max-component-size", &less], &["larger than", &less]);
}
