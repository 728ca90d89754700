//! Who may see what is private.

use std::fs;
use std::io::ErrorKind;

use plugsock_sdk::TlsInfo;
use sha2::{Digest, Sha256};

use crate::path::PRIVATE;
use crate::response::Response;
use crate::site::SITE;

/// Who may enter, a line each: the subject of a certificate, or its SHA-256 fingerprint. `#` begins a comment.
const USERS: &str = ".users";

/// Lets the holder of a certificate in, whom the file of users names.
pub fn admit(tls: Option<TlsInfo>) -> Result<(), Response> {
    let Some(TlsInfo { client_certificates, client_names, .. }) = tls else {
        return Err(Response::certificate_required());
    };
    let Some(certificate) = client_certificates.first() else {
        return Err(Response::certificate_required());
    };
    let users = fs::read_to_string(format!("{SITE}/{PRIVATE}/{USERS}")).unwrap_or_else(|error| {
        if error.kind() != ErrorKind::NotFound {
            eprintln!("the users could not be read, so that nobody may enter: {error}");
        }
        String::new()
    });
    // The first name is the subject; the others need not be unique among all who may get a certificate.
    let subject = client_names.first().map_or("", String::as_str);
    match is_among(&users, subject, &Sha256::digest(certificate)) {
        true => Ok(()),
        false => Err(Response::not_authorised()),
    }
}

fn is_among(users: &str, subject: &str, fingerprint: &[u8]) -> bool {
    let hex: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    users.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).any(|line| {
        // As `openssl x509 -fingerprint` writes it, or without its colons.
        line == subject || line.replace(':', "").eq_ignore_ascii_case(&hex)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_a_subject_or_a_fingerprint() {
        let users = "# people\n\n  CN=Ada,O=Engine \nAB:cd:01\n";
        assert!(is_among(users, "CN=Ada,O=Engine", &[0]));
        assert!(is_among(users, "CN=Eve", &[0xab, 0xcd, 1]));
        assert!(!is_among(users, "CN=Eve", &[0]));
        assert!(!is_among(users, "", &[0]));
        assert!(!is_among(users, "# people", &[0]));
        assert!(!is_among("", "CN=Ada,O=Engine", &[0xab, 0xcd, 1]));
    }

    #[test]
    fn nobody_enters_without_a_certificate() {
        assert_eq!(admit(None).unwrap_err().status, 60);
    }
}
