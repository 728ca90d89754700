//! Handlers in registries: pushed, pulled, served, watched and signed, in a registry that others have built; and by a
//! registry that answers as none should.

pub mod docker;
mod fake;
mod hostile;
mod tokens;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use plugsock::Digest;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Authority, Deployed, Ended, Host, cache_dir, is_running, plugin, plugsock, run, versioned, wait_until,
};
use docker::{DockerRegistry, Settings};

const TCP: &str = "tcp://127.0.0.1:0";

/// A user's Docker configuration, and no proxy on the way.
pub struct User(TempDir);

impl User {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// As `docker login` leaves it.
    fn with_login(registry: &str, credentials: &str) -> Self {
        let user = Self::new();
        let config = format!(r#"{{"auths":{{"{registry}":{credentials}}}}}"#);
        fs::write(user.0.path().join("config.json"), config).unwrap();
        user
    }

    pub fn plugsock(&self) -> Command {
        let mut command = plugsock();
        command.env("DOCKER_CONFIG", self.0.path()).env("NO_PROXY", "*").current_dir(self.0.path());
        command
    }

    /// Runs a command that loads, pulls or pushes a handler.
    fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.plugsock();
        command.args(args);
        if ["call", "check"].contains(&args[0]) {
            command.arg("--cache-dir").arg(cache_dir());
        }
        run(&mut command)
    }

    fn serve(&self, args: &[&str]) -> Host {
        Host::serve_by(self.plugsock(), args)
    }
}

/// What a command printed that succeeded.
fn done(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

/// The command failed, and said all of this in one line, after which digest it had found.
fn fails(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines = ended.stderr.lines().filter(|line| !line.contains(" INFO plugsock::cli::registry"));
    assert_eq!(lines.count(), 1, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "no '{word}' in {}", ended.stderr);
    }
}

fn digest_of(path: &str) -> String {
    Digest::of(&fs::read(path).unwrap()).to_string()
}

#[test]
fn pushed_pulled_and_served() {
    let Some(registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, echo) = (User::new(), plugin("echo"));
    let (reference, plain) = (registry.reference("acme/echo:1"), registry.plain_http());
    let plain = ["--registry-plain-http", &plain];
    let pinned = done(user.run(&[&["push", &echo, &reference], &plain[..]].concat()));
    let pinned = pinned.trim();
    assert!(pinned.starts_with(&format!("{reference}@sha256:")), "{pinned}");
    // The same again is the same.
    assert_eq!(done(user.run(&[&["push", &echo, &reference], &plain[..]].concat())).trim(), pinned);

    let pulled = done(user.run(&[&["pull", &reference], &plain[..]].concat()));
    let digest = digest_of(&echo);
    assert_eq!(pulled, format!("echo.wasm {digest} {pinned}\n"));
    assert_eq!(fs::read(user.0.path().join("echo.wasm")).unwrap(), fs::read(&echo).unwrap());

    let checked = done(user.run(&[&["check", &reference], &plain[..]].concat()));
    assert!(checked.contains(pinned) && checked.contains(&digest), "{checked}");
    assert_eq!(done(user.run(&[&["call", pinned], &plain[..]].concat())), "");

    for source in [&reference, pinned] {
        let host = user.serve(&[&[TCP, source], &plain[..]].concat());
        assert_eq!(host.ready[0].split(' ').nth(2), Some("echo"));
        assert_eq!(host.ready[0].split(' ').nth(3), Some(&*digest));
        assert_eq!(host.ask(b"hello"), b"hello");
        assert_eq!(host.status().slots[0].versions[0].source.as_deref(), Some(pinned));
    }
}

/// A host that starts while the registry is away serves what was fetched last, by the same rules of trust. What is asked for
/// while it runs is what there is now, or nothing.
#[test]
fn a_start_needs_no_registry_once_it_was_there() {
    let Some(registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, cache) = (User::new(), TempDir::new().unwrap());
    let (reference, plain) = (registry.reference("acme/echo:1"), registry.plain_http());
    done(user.run(&["keygen", "--no-password", "ours"]));
    done(user.run(&["keygen", "--no-password", "theirs"]));
    let echo = plugin("echo");
    let push = ["push", &echo, &reference, "--sign", "ours.key", "--registry-plain-http", &plain];
    let pinned = done(user.run(&push)).trim().to_owned();
    let cache = cache.path().to_str().unwrap();
    let serve =
        [TCP, &reference, "--registry-plain-http", &plain, "--cache-dir", cache, "--registry-timeout", "5s"];
    let trusting = [&serve[..], &["--public-key", "ours.pub"]].concat();
    assert_eq!(user.serve(&trusting).ask(b"hello"), b"hello");
    let never = registry.reference("acme/echo:2");
    drop(registry);

    let host = user.serve(&trusting);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(host.status().slots[0].versions[0].source.as_deref(), Some(&*pinned));
    host.log.wait_for(&format!("is taken as it was last, {pinned}"));
    let swapped = host.ctl(&["swap", &reference]);
    assert_eq!(swapped.code, Some(1), "{swapped:?}");
    assert!(swapped.stderr.contains("Connection refused"), "{swapped:?}");

    let others = [&serve[..], &["--public-key", "theirs.pub"]].concat();
    let untrusted = user.run(&[&["serve"], &others[..]].concat());
    assert_eq!(untrusted.code, Some(1), "{untrusted:?}");
    assert!(untrusted.stderr.contains("taken as it was last") && untrusted.stderr.contains("no signature"));
    let unknown = ["serve", TCP, &never, "--registry-plain-http", &plain, "--cache-dir", cache];
    fails(&user.run(&unknown), &["Connection refused"]);
}

/// As OCI has artifacts of WebAssembly, for tools by others.
#[test]
fn the_manifest_is_the_one_that_others_read() {
    let Some(registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, echo, plain) = (User::new(), plugin("echo"), registry.plain_http());
    let (version, reference) = ("org.opencontainers.image.version", registry.reference("acme/echo:1"));
    let annotation = format!("{version}=1.0");
    done(user.run(&[
        "push",
        &echo,
        &reference,
        "--annotation",
        &annotation,
        "--registry-plain-http",
        &plain,
    ]));
    let manifest: Value = serde_json::from_slice(&registry.get("/v2/acme/echo/manifests/1")).unwrap();
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["annotations"][version], "1.0");
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0]["mediaType"], "application/wasm");
    assert_eq!(layers[0]["digest"], digest_of(&echo));
    assert_eq!(layers[0]["size"], fs::metadata(&echo).unwrap().len());
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config: Value =
        serde_json::from_slice(&registry.get(&format!("/v2/acme/echo/blobs/{config}"))).unwrap();
    assert_eq!((&config["architecture"], &config["os"]), (&"wasm".into(), &"wasip2".into()));
    assert_eq!(config["layerDigests"][0], digest_of(&echo));
    let exports = config["component"]["exports"].to_string();
    assert!(exports.contains("plugsock:handler/request-handler@"), "{exports}");
    assert!(config["created"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn swapped_to_another_tag_and_reloaded_when_it_moves() {
    let Some(registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, plain) = (User::new(), registry.plain_http());
    let push = |name: &str, tag: &str| registry.push(&user, &versioned(name), &format!("echo:{tag}"));
    let [one, two] = [push("one", "1"), push("two", "2")];
    let reference = registry.reference("echo:1");
    let mut host = user.serve(&[TCP, &reference, "--registry-plain-http", &plain]);
    assert_eq!(host.ask(b"who?\n"), b"one who?\n");
    let swapped = done(host.ctl(&["swap", &registry.reference("echo:2")]));
    assert!(swapped.starts_with("echo: generation 2 serves, sha256:"), "{swapped}");
    assert_eq!(host.ask(b"who?\n"), b"two who?\n");
    let versions = host.status().slots.remove(0).versions;
    let sources: Vec<_> = versions.iter().map(|version| version.source.as_deref()).collect();
    assert_eq!(sources, [Some(&*two), Some(&*one)]);
    let shown = done(host.ctl(&["versions"]));
    assert!(shown.contains(&format!("echo 2 is {two}")), "{shown}");
    // Another's digest, and a tag that is not there.
    let ended = host.ctl(&["swap", &reference, "--digest", &Digest::of(b"").to_string()]);
    fails(&ended, &["will not load handler echo", "is wanted"]);
    fails(&host.ctl(&["swap", &registry.reference("echo:3")]), &["404 Not Found", "manifest unknown"]);
    assert_eq!(host.ctl(&["swap", "oci://echo:3"]).code, Some(2));
    // What it was told to serve.
    push("six", "1");
    host.signal(Signal::HUP);
    host.log.wait_for_count(": swapped: ", 2);
    assert_eq!(host.ask(b"who?\n"), b"six who?\n");
    // The process that takes over knows what it serves, and where that came from.
    done(host.ctl(&["upgrade"]));
    host.wait_for_exit();
    let version = host.status().slots.remove(0).versions.remove(0);
    assert!(version.source.is_some_and(|source| source.starts_with(&reference)));
    assert_eq!(host.ask(b"who?\n"), b"six who?\n");
    let ended = done(host.ctl(&["shutdown"]));
    assert!(ended.contains("shutting down"));
    host.wait();
}

#[test]
fn a_tag_that_is_watched() {
    let Some(mut registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, plain) = (User::new(), registry.plain_http());
    let reference = registry.reference("echo:1");
    registry.push(&user, &versioned("one"), "echo:1");
    let plain = ["--registry-plain-http", &plain];
    let host = user.serve(&[&[TCP, &reference, "--watch", "--registry-poll", "100ms"], &plain[..]].concat());
    for (swaps, name) in [(1, "two"), (2, "six")] {
        registry.push(&user, &versioned(name), "echo:1");
        host.log.wait_for_count(": swapped: ", swaps);
        assert_eq!(host.ask(b"who?\n"), format!("{name} who?\n").as_bytes());
    }
    // Gone for a while, which is said once.
    registry.stop();
    host.log.wait_for("is not known");
    assert_eq!(host.ask(b"who?\n"), b"six who?\n");
    registry.restart();
    registry.push(&user, &versioned("ten"), "echo:1");
    host.log.wait_for("can be had again");
    host.log.wait_for_count(": swapped: ", 3);
    assert_eq!(host.ask(b"who?\n"), b"ten who?\n");
}

/// S4
#[test]
fn where_a_key_is_given_the_registry_must_have_a_signature_by_it() {
    let Some(registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, plain) = (User::new(), registry.plain_http());
    for name in ["ours", "theirs"] {
        done(user.run(&["keygen", "--no-password", name]));
    }
    let deployed = Deployed::new(&versioned("one"));
    let reference = registry.reference("echo:1");
    let plain = ["--registry-plain-http", &plain];
    let push =
        |args: &[&str]| done(user.run(&[&["push", &deployed.path(), &reference], args, &plain].concat()));
    let load =
        |command: &str| user.run(&[&[command, &reference, "--public-key", "ours.pub"], &plain[..]].concat());
    push(&[]);
    for command in ["call", "check"] {
        fails(&load(command), &["a signature is required, and the registry has none"]);
    }
    push(&["--sign", "theirs.key"]);
    fails(&load("call"), &["no signature that the registry has of it is valid", "by another key"]);
    fails(&load("pull"), &["will not keep", "by another key"]);
    assert!(!user.0.path().join("echo.wasm").exists());
    // Of several one is enough, and it may have been made before.
    done(user.run(&["sign", "--key", "ours.key", &deployed.path()]));
    push(&[]);
    done(load("call"));
    done(load("pull"));
    done(user.run(&["verify", "--public-key", "ours.pub", "echo.wasm"]));

    let serve = [TCP, &reference, "--public-key", "ours.pub", "--watch", "--registry-poll", "100ms"];
    let host = user.serve(&[&serve[..], &plain].concat());
    // What is not signed yet is taken when it is.
    deployed.replace(&versioned("two"));
    fs::remove_file(format!("{}.minisig", deployed.path())).unwrap();
    push(&[]);
    host.log.wait_for("a signature is required");
    assert_eq!(host.ask(b"who?\n"), b"one who?\n");
    push(&["--sign", "ours.key"]);
    host.log.wait_for(": swapped: ");
    assert_eq!(host.ask(b"who?\n"), b"two who?\n");
    // A signature of something else.
    fs::copy(user.0.path().join("echo.wasm.minisig"), format!("{}.minisig", deployed.path())).unwrap();
    deployed.replace(&versioned("six"));
    push(&[]);
    fails(&load("call"), &["or of another file"]);
}

/// What is no file is written to, whoever runs the command, and what a link leads to is replaced, and not the link.
#[test]
fn what_is_no_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let Some(registry) = DockerRegistry::start(Settings::default()) else { return };
    let (user, echo) = (User::new(), plugin("echo"));
    let (reference, plain) = (registry.reference("echo:1"), registry.plain_http());
    let plain = ["--registry-plain-http", &plain];
    done(user.run(&[&["push", &echo, &reference], &plain[..]].concat()));
    let pull = |output: &str| user.run(&[&["pull", &reference, "-o", output], &plain[..]].concat());
    let at = |name: &str| user.0.path().join(name);
    let pipe = at("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    done(pull("pipe"));
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(reader.wait_with_output().unwrap().stdout, fs::read(&echo).unwrap());
    fs::write(at("old.wasm"), "old").unwrap();
    std::os::unix::fs::symlink("old.wasm", at("link.wasm")).unwrap();
    done(pull("link.wasm"));
    assert!(fs::symlink_metadata(at("link.wasm")).unwrap().is_symlink());
    assert_eq!(fs::read(at("old.wasm")).unwrap(), fs::read(&echo).unwrap());
    fails(&pull("."), &["cannot write .: it is a directory: name a file in it"]);
}

/// One that takes its time is killed with all that it has started when nobody waits for it any more; one that cannot be had, or does
/// not know, is said.
#[test]
fn credential_helpers_that_do_not_help() {
    let Some(registry) = DockerRegistry::start(Settings { has_password: true, ..Settings::default() }) else {
        return;
    };
    let (reference, plain) = (registry.reference("echo:1"), registry.plain_http());
    let user = User::new();
    let config = format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, registry.host());
    fs::write(user.0.path().join("config.json"), config).unwrap();
    let path = format!("{}:{}", user.0.path().display(), std::env::var("PATH").unwrap());
    let pull = |time: &str| {
        let mut pull = user.plugsock();
        pull.args(["pull", &reference, "--registry-plain-http", &plain, "--registry-timeout", time]);
        run(pull.env("PATH", &path))
    };
    fails(&pull("1m"), &["cannot ask docker-credential-test: No such file"]);
    let helper = user.0.path().join("docker-credential-test");
    let scripts = [
        (
            "1m",
            "echo 'credentials not found in native keychain'; exit 1",
            "it wants credentials, and there are none",
        ),
        (
            "1m",
            "echo no such vault >&2; exit 7",
            "docker-credential-test failed (exit status: 7): no such vault",
        ),
        ("1m", "exit 1", "docker-credential-test failed (exit status: 1): it does not say why"),
        ("1m", "echo '{}'", "docker-credential-test does not answer as a credential helper does"),
        ("1m", "yes", "cannot ask docker-credential-test: it says too much"),
        (
            "1s",
            "sleep 1000 & echo $$ $! > pids; wait",
            "it is not done within 1s: --registry-timeout may allow more",
        ),
    ];
    for (time, script, words) in scripts {
        fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
        make_executable(&helper);
        fails(&pull(time), &[words]);
    }
    let pids = fs::read_to_string(user.0.path().join("pids")).unwrap();
    for pid in pids.split_whitespace() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        wait_until(|| !is_running(pid));
    }
}

#[test]
fn credentials_are_those_of_docker() {
    let Some(registry) = DockerRegistry::start(Settings { has_password: true, ..Settings::default() }) else {
        return;
    };
    let (echo, plain, reference) = (plugin("echo"), registry.plain_http(), registry.reference("echo:1"));
    let push = |user: &User| user.run(&["push", &echo, &reference, "--registry-plain-http", &plain]);
    let login = format!("`docker login {}`", registry.host());
    fails(&push(&User::new()), &["it wants credentials, and there are none", "config.json", &login]);
    // "user:wrong", and "user:secret".
    let wrong = User::with_login(&registry.host(), r#"{"auth":"dXNlcjp3cm9uZw=="}"#);
    fails(&push(&wrong), &["it does not accept the credentials", &login]);
    let right = User::with_login(&registry.host(), r#"{"auth":"dXNlcjpzZWNyZXQ="}"#);
    done(push(&right));
    done(right.run(&["call", &reference, "--registry-plain-http", &plain]));
    fails(&wrong.run(&["call", &reference, "--registry-plain-http", &plain]), &["does not accept"]);
    let unreadable = User::new();
    fs::write(unreadable.0.path().join("config.json"), "{").unwrap();
    fails(&push(&unreadable), &["config.json is not a configuration of Docker"]);
    // By a helper, which is asked for the registry's name.
    let helped = User::new();
    let helper = helped.0.path().join("docker-credential-test");
    let answer = r#"{"ServerURL":"x","Username":"user","Secret":"secret"}"#;
    let host = registry.host();
    fs::write(&helper, format!("#!/bin/sh\nread server\n[ \"$server\" = {host} ] && echo '{answer}'\n"))
        .unwrap();
    make_executable(&helper);
    fs::write(helped.0.path().join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let path = format!("{}:{}", helped.0.path().display(), std::env::var("PATH").unwrap());
    let mut pull = helped.plugsock();
    pull.args(["pull", &reference, "--registry-plain-http", &plain]).env("PATH", path);
    done(run(&mut pull));
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn tls_is_the_default_and_may_be_by_an_authority_of_ones_own() {
    let (authority, user, echo) = (Authority::new(), User::new(), plugin("echo"));
    let identity = authority.server(&["localhost", "127.0.0.1"]);
    let settings = Settings { tls: Some((identity.certificate, identity.key)), ..Settings::default() };
    let Some(registry) = DockerRegistry::start(settings) else { return };
    let reference = registry.reference("echo:1");
    let trusted = ["--registry-ca", &authority.certificate];
    fails(&user.run(&["push", &echo, &reference]), &["UnknownIssuer", "--registry-ca"]);
    done(user.run(&[&["push", &echo, &reference], &trusted[..]].concat()));
    let host = user.serve(&[&[TCP, &reference], &trusted[..]].concat());
    assert_eq!(host.ask(b"hello"), b"hello");
    let none = user.0.path().join("none.pem");
    fs::write(&none, "nothing").unwrap();
    let ended = user.run(&["pull", &reference, "--registry-ca", &none.display().to_string()]);
    assert!(ended.code == Some(2) && ended.stderr.contains("no certificate in it"), "{ended:?}");
    // Whoever speaks no TLS is told apart, also on this very machine.
    let Some(plain) = DockerRegistry::start(Settings::default()) else { return };
    fails(&user.run(&["pull", &plain.reference("echo:1")]), &["does not speak TLS", "--registry-plain-http"]);
}
