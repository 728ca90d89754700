//! What the command line has for TLS beside `serve`.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use super::{Protected, Way};
use crate::harness::{Ended, Host, cache_dir, for_each_strategy, guest, is_installed, plugin, plugsock, run};

fn keygen(directory: &TempDir, args: &[&str]) -> Ended {
    run(plugsock().current_dir(directory.path()).args(["keygen", "--tls", "echo"]).args(args))
}

/// Says hello over TLS to a port or a Unix socket's path, and prints what comes back.
const CLIENT: &str = "
import socket, ssl, sys
where, certificate = sys.argv[1:]
family = socket.AF_INET if where.isdigit() else socket.AF_UNIX
plain = socket.socket(family)
plain.connect(('127.0.0.1', int(where)) if where.isdigit() else where)
context = ssl.create_default_context(cafile=certificate)
with context.wrap_socket(plain, server_hostname='echo.test') as client:
    client.sendall(b'hello')
    print(client.recv(5).decode(), client.version())
";

#[test]
fn a_certificate_is_made_and_served() {
    if !is_installed("python3") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let made = keygen(&directory, &["--host", "echo.test", "--host", "127.0.0.1"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let [certificate, key] =
        ["echo.crt", "echo.key"].map(|name| directory.path().join(name).display().to_string());
    for_each_strategy(|strategy| {
        let identity = format!("echo={certificate},{key}");
        let path = directory.path().join(strategy).display().to_string();
        let socket = format!("tls+unix://{path}");
        let args = ["tls://127.0.0.1:0", &socket, "--tls", &identity, "--concurrency", strategy];
        let host = Host::serve(&args);
        let port = host.address().to_string().rsplit(':').next().unwrap().to_owned();
        for place in [port, path] {
            let ended = run(Command::new("python3").args(["-c", CLIENT, &place, &certificate]));
            assert_eq!(ended.stdout, "hello TLSv1.3\n", "{place}: {ended:?}");
        }
    });
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// An old key is never lost, and what is half made does not stay.
#[test]
fn a_certificate_is_made_or_nothing() {
    let directory = TempDir::new().unwrap();
    assert_eq!(keygen(&directory, &[]).code, Some(0));
    let key = || std::fs::read(directory.path().join("echo.key")).unwrap();
    let before = key();
    let again = keygen(&directory, &[]);
    assert!(again.code == Some(1) && again.stderr.contains("echo.key"), "{again:?}");
    assert_eq!(key(), before);
    let other = TempDir::new().unwrap();
    std::fs::write(other.path().join("echo.crt"), "mine").unwrap();
    assert_eq!(keygen(&other, &[]).code, Some(1));
    assert!(!other.path().join("echo.key").exists());
    for args in [&["--host", "no host"][..], &["--days", "0"], &["--no-password"]] {
        let other = TempDir::new().unwrap();
        let refused = keygen(&other, args);
        assert!(matches!(refused.code, Some(1 | 2)), "{args:?}: {refused:?}");
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0, "{args:?}");
    }
}

/// Whether the host protects the connection or the handler does.
#[test]
fn a_call_is_made_over_tls() {
    for (handler, args) in [(plugin("echo"), &[][..]), (guest("tls"), &["--env", "WHEN=setup"])] {
        let mut call = Command::new("sh");
        call.args(["-c", "printf hello | \"$@\"", "sh"]).arg(plugsock().get_program());
        call.args(["call", "--tls", &handler]).args(args).arg("--cache-dir").arg(cache_dir());
        let ended = run(&mut call);
        assert_eq!((ended.code, ended.stdout.trim_end()), (Some(0), "hello"), "{handler}: {ended:?}");
        assert!(ended.stderr.contains("tls      TLSv1.3, TLS_"), "{ended:?}");
    }
}

#[test]
fn check_says_who_protects_connections() {
    for (handler, says) in [(guest("tls"), true), (plugin("echo"), false)] {
        let ended = run(plugsock().args(["check", &handler]).arg("--cache-dir").arg(cache_dir()));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stdout.contains("it protects connections itself"), says, "{ended:?}");
    }
}

/// A packet has no connection, and a server without certificates nothing to show.
#[test]
fn start_tls_is_refused_where_there_is_none() {
    for_each_strategy(|strategy| {
        let args = ["udp://127.0.0.1:0", &guest("tls"), "--concurrency", strategy, "--env", "WHEN=setup"];
        let host = Host::serve(&args);
        std::net::UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .send_to(b"x", host.address().to_string().strip_prefix("udp://").unwrap())
            .unwrap();
        host.log.wait_for("Unsupported");
        let protected = Protected::serve(Way::Setup, &["--concurrency", strategy]);
        protected.serves_on(Way::Setup);
    });
}
