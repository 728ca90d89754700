//! Addresses, grants, digests, keys, signatures, and the options of the command.

use std::fmt::Display;
use std::str::FromStr;

use plugsock::{Digest, NetGrant, PublicKey, ServeAddress, UnixAddress};

use super::for_each_seed;
use super::random::Random;
use crate::harness::{plugsock, run};

const PIECES: [&str; 40] = [
    "tcp://",
    "udp://",
    "unix://",
    "unixgram://",
    "http://",
    "://",
    ":",
    "::",
    "/",
    "//",
    "@",
    "[",
    "]",
    "%",
    ".",
    "..",
    "*",
    "-",
    "+",
    ",",
    " ",
    "\0",
    "\n",
    "0",
    "1",
    "65535",
    "65536",
    "127.0.0.1",
    "::1",
    "fe80::1%1",
    "localhost",
    "example.org",
    "10.0.0.0/8",
    "fd00::/8",
    "sha256:",
    "a",
    "é",
    "\u{202e}",
    "none",
    "18446744073709551616",
];

/// What is taken is written as it is read.
fn is_read_as_written<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    assert!(!written.contains(char::is_control), "{text:?} is written as {written:?}");
    // What a log could not show is escaped, for people alone.
    if written.contains('\\') {
        return;
    }
    match written.parse::<T>() {
        Ok(again) => assert!(again == value, "{text:?} is written as {written:?}, which is another"),
        Err(_) => panic!("{text:?} is written as {written:?}, which is not taken"),
    }
}

#[test]
fn addresses_grants_and_digests() {
    for_each_seed(100_000, |random| {
        let text = random.text(&PIECES);
        is_read_as_written::<ServeAddress>(&text);
        is_read_as_written::<NetGrant>(&text);
        is_read_as_written::<Digest>(&text);
        is_read_as_written::<Digest>(&format!(
            "sha256:{}",
            random.text(&["0123456789abcdef", "0", "A", "ä"])
        ));
        let _ = text.parse::<PublicKey>();
        let _ = UnixAddress::Path(text.into()).to_string();
    });
}

/// A short signature of the comment once made the library that reads it panic.
#[test]
fn keys_and_signatures() {
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
";
    let key: PublicKey = KEY.parse().unwrap();
    assert!(key.verify(b"test", SIGNATURE).is_ok());
    for_each_seed(20_000, |random| {
        let text = random.mutated(SIGNATURE.as_bytes());
        let text = String::from_utf8_lossy(&text);
        // What follows the signature itself is nobody's, and so is the first line.
        let comment = |text: &str| text.lines().nth(2).map(|line| line.trim().to_owned());
        if key.verify(b"test", &text).is_ok() {
            assert_eq!(comment(&text), comment(SIGNATURE), "{text:?} is taken");
        }
        if let Ok(other) = String::from_utf8_lossy(&random.mutated(KEY.as_bytes())).parse::<PublicKey>() {
            let _ = other.verify(b"test", SIGNATURE);
        }
    });
}

/// An option of the command, with a value that may be wrong.
fn option(random: &mut Random) -> [String; 2] {
    const OPTIONS: [&str; 22] = [
        "--memory",
        "--table-elements",
        "--instances",
        "--resources",
        "--request-time",
        "--cpu-time",
        "--idle-timeout",
        "--max-requests",
        "--reuse",
        "--log-rate",
        "--env",
        "--dir",
        "--allow-net",
        "--digest",
        "--public-key",
        "--max-component-size",
        "--compile-time",
        "--compile-memory",
        "--cache-size",
        "--log-level",
        "--log-format",
        "--no-such-option",
    ];
    const VALUES: [&str; 24] = [
        "",
        "0",
        "1",
        "-1",
        "1e9",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999s",
        "s",
        "ms",
        "1y",
        "none",
        "GiB",
        "1GiB",
        "16EiB",
        "=",
        "A=B",
        "::",
        "/::/",
        ":rw",
        ":*",
        "*",
        "info",
        "json",
    ];
    // A command line has no null bytes.
    [(*random.pick(&OPTIONS)).to_owned(), random.text(&VALUES).replace('\0', "")]
}

/// The command ends with its own words, whatever the options are.
#[test]
fn options() {
    for_each_seed(100, |random| {
        let mut args = vec!["check".to_owned(), "/no/such/handler.wasm".to_owned()];
        args.extend((0..=random.below(2)).flat_map(|_| option(random)));
        let ended = run(plugsock().args(&args));
        assert!(matches!(ended.code, Some(1 | 2)), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("error: "), "{args:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{args:?}: {ended:?}");
    });
}
