//! What a tool says that looks for weak protocols and ciphers.

use std::process::Command;

use super::matrix::port;
use super::{Protected, Way};
use crate::harness::is_installed;

#[test]
fn sslscan_finds_nothing_weak() {
    if !is_installed("sslscan") {
        return;
    }
    let protected = Protected::serve(Way::Listener, &[]);
    let mut sslscan = Command::new("sslscan");
    let ended = sslscan.args(["--no-colour", &format!("127.0.0.1:{}", port(&protected))]).output().unwrap();
    let report = String::from_utf8_lossy(&ended.stdout);
    eprintln!("{report}");
    let squeezed = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "SSLv2 disabled",
        "SSLv3 disabled",
        "TLSv1.0 disabled",
        "TLSv1.1 disabled",
        "TLSv1.2 enabled",
        "TLSv1.3 enabled",
        "TLSv1.2 not vulnerable to heartbleed",
        "TLSv1.3 not vulnerable to heartbleed",
    ] {
        assert!(squeezed.contains(line), "{line}");
    }
    let ciphers = report.lines().filter(|line| line.starts_with("Accepted") || line.starts_with("Preferred"));
    let ciphers: Vec<&str> = ciphers.collect();
    assert!(ciphers.len() >= 4, "{ciphers:?}");
    for cipher in &ciphers {
        assert!(cipher.contains("GCM") || cipher.contains("CHACHA20"), "{cipher}");
        assert!(cipher.contains("TLSv1.3") || cipher.contains("ECDHE"), "{cipher}");
    }
    protected.serves_on(Way::Listener);
}
