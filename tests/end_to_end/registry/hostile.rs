//! Registries that are slow, break off, lie, or send more than they should: each comes to its error in time, and what
//! serves serves on.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use plugsock::Digest;

use super::fake::{Artifact, Fake, Request, give, wait_for_end};
use super::{TCP, User, done, fails};
use crate::harness::{PATIENCE, plugin, versioned};

/// What a registry does to whom it is asked by.
type Trick = fn(&Artifact, &Request, &mut TcpStream);

/// Headers without an end to what follows.
const ENDLESS: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

fn answer_whole(artifact: &Artifact, request: &Request, stream: &mut TcpStream) {
    artifact.answer(request, stream);
}

fn send_without_end(stream: &mut TcpStream) {
    let _ = stream.write_all(ENDLESS);
    while stream.write_all(&[b' '; 64 << 10]).is_ok() {}
}

/// Each with what is said of it.
const TRICKS: [(&str, Trick, &[&str]); 13] = [
    (
        "says nothing",
        |_, _, stream| wait_for_end(stream),
        &["it is not done within 2s", "--registry-timeout"],
    ),
    (
        "dribbles",
        |artifact, request, stream| match request.is_for("/blobs/") {
            true => {
                let _ = stream.write_all(ENDLESS);
                while stream.write_all(b"\0").is_ok() {
                    thread::sleep(Duration::from_millis(50));
                }
            }
            false => artifact.answer(request, stream),
        },
        &["cannot get its component: it is not done within 2s"],
    ),
    (
        "breaks off in the blob",
        |artifact, request, stream| match request.is_for("/blobs/") {
            true => {
                let length = artifact.component.len();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let _ = stream.write_all(&artifact.component[..1000]);
            }
            false => artifact.answer(request, stream),
        },
        &["cannot get its component: it broke off after 1000 bytes"],
    ),
    (
        "gives another blob",
        |artifact, request, stream| match request.is_for("/blobs/") {
            true => give(stream, "200 OK", "", &vec![0; artifact.component.len()]),
            false => artifact.answer(request, stream),
        },
        &["cannot get its component: what it sends has the digest sha256:", "it is not what was asked for"],
    ),
    (
        "gives another manifest than it says",
        |artifact, request, stream| {
            let digest = format!("Docker-Content-Digest: {}\r\n", Digest::of(b""));
            give(stream, "200 OK", &digest, artifact.manifest.as_bytes());
            assert!(request.is_for("/manifests/"));
        },
        &["cannot get its manifest: what it sends has the digest sha256:"],
    ),
    (
        "gives more of the blob than it said",
        |artifact, request, stream| match request.is_for("/blobs/") {
            true => send_without_end(stream),
            false => artifact.answer(request, stream),
        },
        &["cannot get its component: it sends more than"],
    ),
    (
        "gives a manifest without end",
        |_, _, stream| send_without_end(stream),
        &["cannot get its manifest: it sends more than 4194304 bytes"],
    ),
    (
        "refuses without end",
        |_, _, stream| {
            let _ = stream.write_all(b"HTTP/1.1 418 No\r\nConnection: close\r\n\r\n");
            while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
        },
        &["it answers 418 I'm a teapot: xxx"],
    ),
    (
        "sends in circles",
        |_, request, stream| {
            let path = request.line.split(' ').nth(1).unwrap();
            give(stream, "307 Temporary Redirect", &format!("Location: {path}\r\n"), b"");
        },
        &["it redirects more than 5 times"],
    ),
    (
        "sends on by plain HTTP",
        |_, _, stream| {
            give(stream, "307 Temporary Redirect", "Location: http://localhost:1/?key=secret\r\n", b"");
        },
        &["it redirects to http://localhost:1/, which is plain HTTP", "--registry-plain-http would allow it"],
    ),
    (
        "has too much to do for an hour",
        |_, _, stream| give(stream, "429 Too Many Requests", "Retry-After: 3600\r\n", b"slow down"),
        &["it answers 429 Too Many Requests: slow down"],
    ),
    (
        "does not have it",
        |_, _, stream| {
            let said = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            give(stream, "404 Not Found", "", said);
        },
        &["it answers 404 Not Found: manifest unknown; is the name right"],
    ),
    (
        "gives no manifest",
        |_, _, stream| give(stream, "200 OK", "", b"<html>"),
        &["neither a manifest nor an index"],
    ),
];

#[test]
fn each_trick_comes_to_its_error_and_what_serves_serves_on() {
    let trick: Arc<Mutex<Trick>> = Arc::new(Mutex::new(answer_whole));
    let (artifact, played) = (Artifact::new(versioned("one")), trick.clone());
    let fake = Fake::new(move |request, stream| {
        let trick = *played.lock().unwrap();
        trick(&artifact, request, stream);
    });
    let (user, reference) = (User::new(), fake.reference());
    let options = ["--registry-plain-http", &fake.host, "--registry-timeout", "2s"];
    let host = user.serve(&[&[TCP, &reference], &options[..]].concat());
    for (name, does, words) in TRICKS {
        eprintln!("a registry that {name}");
        *trick.lock().unwrap() = does;
        let begun = Instant::now();
        fails(&user.run(&[&["call", &reference], &options[..]].concat()), words);
        fails(&host.ctl(&["swap", &reference]), words);
        assert!(begun.elapsed() < PATIENCE / 2, "{name}: {:?}", begun.elapsed());
        assert_eq!(host.ask(b"who?\n"), b"one who?\n");
    }
    // What it sent was not kept.
    assert!(host.peak_memory() < 1 << 30, "{} bytes", host.peak_memory());
    *trick.lock().unwrap() = answer_whole;
    let said = done(host.ctl(&["swap", &reference]));
    assert!(said.contains("unchanged"), "{said}");
}

/// An artifact that is no handler, by what its manifest says.
#[test]
fn artifacts_that_are_not_loaded() {
    let component = fs::read(plugin("echo")).unwrap();
    let image = "application/vnd.oci.image.layer.v1.tar+gzip";
    let index = |entries: &str| Artifact {
        component: Vec::new(),
        manifest: format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#),
    };
    let amd64 =
        r#"{"mediaType":"m","digest":"sha256:00","size":1,"platform":{"architecture":"amd64","os":"linux"}}"#;
    for (artifact, words) in [
        (Artifact::with_layer(component.clone(), 10, image), ["it is not WebAssembly", image]),
        (Artifact::of_size(component.clone(), 1 << 40), ["1099511627776 bytes", "--max-component-size"]),
        (Artifact::of_size(component.clone(), 100), ["it sends more than 100 bytes", "its component"]),
        (index(&format!("{amd64},{amd64}")), ["index of 2 manifests", "none of them for WebAssembly"]),
        (index(amd64), ["for a digest", "sha256:00"]),
    ] {
        let fake = Fake::new(move |request, stream| artifact.answer(request, stream));
        let ended = User::new().run(&["check", &fake.reference(), "--registry-plain-http", &fake.host]);
        fails(&ended, &words);
    }
}

/// By the names that layers had before there was agreement on one.
#[test]
fn what_older_tools_wrote_is_read() {
    for media_type in
        ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.module.wasm.content.layer.v1+wasm"]
    {
        let component = fs::read(plugin("echo")).unwrap();
        let size = component.len() as u64;
        let artifact = Artifact::with_layer(component, size, media_type);
        let fake = Fake::new(move |request, stream| artifact.answer(request, stream));
        done(User::new().run(&["call", &fake.reference(), "--registry-plain-http", &fake.host]));
    }
}

#[test]
fn what_passes_is_tried_again() {
    let artifact = Artifact::new(fs::read(plugin("echo")).unwrap());
    let times = Mutex::new(0);
    let fake = Fake::new(move |request, stream| {
        let mut times = times.lock().unwrap();
        *times += 1;
        match *times {
            1 => give(stream, "503 Service Unavailable", "", b""),
            2 => give(stream, "429 Too Many Requests", "Retry-After: 0\r\n", b""),
            // Breaks off before it answers, at the blob.
            4 => {}
            _ => artifact.answer(request, stream),
        }
    });
    done(User::new().run(&["call", &fake.reference(), "--registry-plain-http", &fake.host]));
    assert_eq!((fake.count("/manifests/"), fake.count("/blobs/")), (3, 2));
}

/// A reference by digest is that, whatever the registry has for it.
#[test]
fn another_manifest_than_the_one_that_is_named() {
    let artifact = Artifact::new(fs::read(plugin("echo")).unwrap());
    let right = Digest::of(artifact.manifest.as_bytes());
    let fake = Fake::new(move |request, stream| artifact.answer(request, stream));
    let at = |digest: Digest| format!("oci://{}/echo@{digest}", fake.host);
    let call = |reference: &str| User::new().run(&["call", reference, "--registry-plain-http", &fake.host]);
    done(call(&at(right)));
    let wrong = Digest::of(b"");
    fails(&call(&at(wrong)), &[&format!("has the digest {right} and not {wrong}")]);
}

/// Nothing is sent where only TLS is allowed, and loopback is no exception.
#[test]
fn plain_http_is_by_option_alone() {
    let fake = Fake::new(|_, stream| give(stream, "404 Not Found", "", b""));
    let other = ["--registry-plain-http", "localhost"];
    fails(&User::new().run(&["call", &fake.reference()]), &["--registry-plain-http"]);
    fails(&User::new().run(&[&["call", &fake.reference()], &other[..]].concat()), &["--registry-plain-http"]);
    assert_eq!(fake.count("/v2/"), 0);
}
