//! What a guest prints is in the host's log, a line at a time, and can do nothing to a terminal.

use crate::harness::{Host, for_each_strategy};

/// G15
#[test]
fn lines_of_a_guest_are_logged_with_its_request_and_escaped() {
    for_each_strategy(|strategy| {
        let mut host = Host::tcp("log_lines", &["--concurrency", strategy]);
        host.ask(b"");
        host.ask(b"");
        assert!(host.terminate().success());
        let lines = host.log.lines_with("request=2");
        for (line, (text, stream)) in lines.iter().zip([
            ("a line to stdout", "stdout"),
            ("a line to stderr", "stderr"),
            (r"\u{1b}[31mred\u{1b}[0m, bell \u{7}, return \r, null \u{0}", "stdout"),
            ("not UTF-8 follows:", "stdout"),
            ("\u{fffd}\u{fffd}", "stdout"),
            ("no line feed", "stdout"),
        ]) {
            assert!(
                line.contains(&format!("guest: {text} request=2 stream=\"{stream}\"")),
                "{text} in {line}"
            );
        }
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(!host.log.text().contains(|character: char| character.is_control() && character != '\n'));
    });
}

#[test]
fn guests_can_be_silenced() {
    let mut host = Host::tcp("log_lines", &["--log-level", "info,guest=off"]);
    host.ask(b"");
    assert!(host.terminate().success());
    assert_eq!(host.log.lines_with("guest"), [""; 0]);
}
