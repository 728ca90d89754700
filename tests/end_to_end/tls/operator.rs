//! What an operator can do wrong with certificates: at the start it is said in one line and nothing is served, and later what
//! was there before serves on.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use rustix::process::Signal;
use tempfile::TempDir;

use super::client::{Close, End, Settings, VERSIONS};
use super::{Protected, Way};
use crate::harness::certificates::{Ca, DAY, Validity};
use crate::harness::{Ended, cache_dir, for_each_strategy, is_installed, plugsock, run};

fn start(args: &[&str]) -> Ended {
    run(plugsock().arg("serve").args(args).arg("--cache-dir").arg(cache_dir()))
}

#[test]
fn a_start_with_certificates_that_are_not_fit() {
    let (ca, directory) = (Ca::new("the CA"), TempDir::new().unwrap());
    let good = ca.server(&["localhost"]).write(directory.path(), "good");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let identity = |certificate: &str, key: &str| format!("x={},{}", path(certificate), path(key));
    ca.server(&["localhost"]).write(directory.path(), "other");
    ca.server_for(&["localhost"], Validity::over()).write(directory.path(), "expired");
    ca.server_for(&["localhost"], Validity::to_come()).write(directory.path(), "early");
    let half = |name: &str, half: &str| {
        let text = fs::read_to_string(path(name)).unwrap();
        fs::write(path(half), &text[..text.len() / 2]).unwrap();
    };
    half("good.crt", "half.crt");
    half("good.key", "half.key");
    fs::write(path("empty"), "").unwrap();
    fs::write(path("der"), rustls_pki_types::CertificateDer::from(vec![48, 3, 2, 1, 0]).as_ref()).unwrap();
    let bad = [
        (identity("good.crt", "other.key"), "other.key", "does not fit the certificate in"),
        (identity("none.crt", "good.key"), "none.crt", "cannot be read: No such file"),
        (identity("good.crt", "none.key"), "none.key", "cannot be read: No such file"),
        (identity("expired.crt", "expired.key"), "expired.crt", "renew it"),
        (identity("early.crt", "early.key"), "early.crt", "is not valid before"),
        (identity("half.crt", "good.key"), "half.crt", "it is not whole"),
        (identity("good.crt", "half.key"), "half.key", "it is not whole"),
        (identity("empty", "good.key"), "empty", "it must be PEM, with BEGIN CERTIFICATE"),
        (identity("good.key", "good.key"), "good.key", "it must be PEM, with BEGIN CERTIFICATE"),
        (identity("der", "good.key"), "der", "it must be PEM"),
        (identity("good.crt", "good.crt"), "good.crt", "it must be PEM, with BEGIN PRIVATE KEY"),
        (identity("good.crt", "empty"), "empty", "it must be PEM, with BEGIN PRIVATE KEY"),
    ];
    for (identity, file, reason) in &bad {
        assert_refused(&["tls://127.0.0.1:0", "--tls", identity], 1, &[&path(file), reason]);
    }
    assert_refused(&["tls://127.0.0.1:0", "--tls", &good, "--tls", &good], 1, &["two identities 'good'"]);
    let empty = path("empty");
    assert_refused(
        &["tls://127.0.0.1:0", "--tls", &good, "--tls-client-ca", &empty],
        1,
        &[&empty, "it must be PEM"],
    );
    if is_installed("openssl") {
        let (key, encrypted) = (path("good.key"), path("encrypted.key"));
        let args = ["pkey", "-aes256", "-passout", "pass:secret", "-in", &key, "-out", &encrypted];
        assert!(Command::new("openssl").args(args).status().unwrap().success());
        let identity = identity("good.crt", "encrypted.key");
        assert_refused(&["tls://127.0.0.1:0", "--tls", &identity], 1, &[&encrypted, "decrypt it with"]);
    }
}

#[test]
fn a_start_with_options_that_do_not_fit() {
    let (ca, directory) = (Ca::new("the CA"), TempDir::new().unwrap());
    let good = ca.server(&["localhost"]).write(directory.path(), "good");
    assert_refused(&["tls://127.0.0.1:0"], 1, &["tls://127.0.0.1:", "give --tls NAME=CERT.pem,KEY.pem"]);
    let auth = ["tls://127.0.0.1:0", "--tls", &good, "--tls-client-auth", "require"];
    assert_refused(&auth, 1, &["--tls-client-ca FILE"]);
    let without = ["tcp://127.0.0.1:0", "--tls-client-auth", "require"];
    assert_refused(&without, 2, &["--tls"]);
    for address in ["dtls://127.0.0.1:0", "tls+udp://127.0.0.1:0", "tls+unixgram:///x"] {
        assert_refused(&[address, "--tls", &good], 2, &["asks for TLS with datagrams", "use tls://"]);
    }
    for name in ["", "x", "x=a", "x=,b", "x=a,", "=a,b", "a,b"] {
        assert_refused(&["tls://127.0.0.1:0", "--tls", name], 2, &["write NAME=CERT.pem,KEY.pem"]);
    }
    assert_refused(
        &["tls://127.0.0.1:0", "--tls", &good, "--tls-min-version", "1.1"],
        2,
        &["use 1.2 or 1.3"],
    );
}

fn assert_refused(args: &[&str], code: i32, words: &[&str]) {
    let ended = start(args);
    assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{args:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
    assert!(code == 2 || ended.stderr.trim_end().lines().count() == 1, "{ended:?}");
}

/// Whether another certificate is asked for by a signal, or seen by itself.
#[test]
fn certificates_are_loaded_again() {
    for_each_strategy(|strategy| {
        for is_asked in [true, false] {
            let protected = Protected::serve(Way::Listener, &["--concurrency", strategy]);
            let Protected { host, ca, certified, .. } = &protected;
            let reload = || {
                if is_asked {
                    host.signal(Signal::HUP)
                }
            };
            let shown = || {
                let mut client = Way::Listener.connect(host, &protected.settings(1)).shaken();
                let shown = client.server_certificate();
                assert_eq!(client.exchange(b"a", Close::Says), (b"a".to_vec(), End::Said));
                shown
            };
            assert_eq!(shown(), certified.der());
            // With `sync` it would keep all others waiting.
            let mut open = (strategy != "sync").then(|| {
                let mut open = Way::Listener.connect(host, &protected.settings(1));
                open.send(b"before");
                assert_eq!(open.recv_exact(6), b"before");
                open
            });
            let file = protected.path().join("main.crt");
            let half = protected.path().join("half");
            fs::write(&half, &certified.pem[..certified.pem.len() / 2]).unwrap();
            fs::rename(half, &file).unwrap();
            reload();
            let line = host.log.wait_for("certificates not loaded again, those before serve on");
            assert!(line.contains(&file.display().to_string()) && line.contains("it is not whole"), "{line}");
            assert_eq!(shown(), certified.der());
            let next = ca.server(&["localhost"]);
            next.replace(protected.path(), "main");
            reload();
            host.log.wait_for("certificates loaded again");
            assert_eq!(shown(), next.der());
            if let Some(open) = &mut open {
                open.send(b"after");
                assert_eq!(open.recv_exact(5), b"after");
            }
        }
    });
}

#[test]
fn an_expiry_that_is_near_is_warned_of() {
    let (ca, directory) = (Ca::new("the CA"), TempDir::new().unwrap());
    let identity = |name: &str, days: u32| {
        ca.server_for(&["localhost"], Validity::days(days)).write(directory.path(), name)
    };
    let (near, far) = (identity("near", 13), identity("far", 15));
    let args = ["--tls", &near, "--tls", &far, "--log-level", "info"];
    let protected = Protected::serve(Way::Listener, &args);
    let line = protected.host.log.wait_for("the certificate expires at ");
    assert!(line.contains("identity=\"near\"") || line.contains("identity=near"), "{line}");
    let day = humantime_day(SystemTime::now() + 13 * DAY);
    assert!(line.contains(&day), "{line}, not {day}");
    let certificates = protected.host.status().servers.swap_remove(0).tls.unwrap().certificates;
    let names: Vec<&str> = certificates.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["main", "near", "far"]);
    assert!(certificates[1].expires.starts_with(&day), "{certificates:?}");
    assert_eq!(protected.host.log.lines_with("the certificate expires at ").len(), 1);
    // The certificates are verified all the same.
    let settings = Settings::new(&protected.ca, VERSIONS[1], "localhost");
    assert_eq!(Way::Listener.connect(&protected.host, &settings).exchange(b"a", Close::Says).0, b"a");
}

/// The day of a time, as logs write it.
fn humantime_day(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let date = Command::new("date").args(["-u", "+%Y-%m-%d", "-d", &format!("@{seconds}")]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}
