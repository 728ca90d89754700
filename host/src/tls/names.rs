//! Whom a certificate is for.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The names in a certificate.
#[derive(Debug)]
pub(super) struct Names {
    /// Its subject's distinguished name, as RFC 4514 writes it.
    pub(super) subject: String,
    /// Host names among its alternative names.
    pub(super) hosts: Vec<String>,
    /// Addresses of mail, URIs and IP addresses among them.
    others: Vec<String>,
}

impl Names {
    /// The subject, then the alternative names.
    pub(super) fn all(self) -> Vec<String> {
        [vec![self.subject], self.hosts, self.others].concat()
    }
}

pub(super) fn names_of(certificate: &X509Certificate<'_>) -> Names {
    let (mut hosts, mut others) = (Vec::new(), Vec::new());
    let alternative = certificate.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
            GeneralName::RFC822Name(name) | GeneralName::URI(name) => others.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => others.extend(ip_address(bytes)),
            _ => {}
        }
    }
    Names { subject: distinguished(certificate.subject()), hosts, others }
}

fn ip_address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

/// A distinguished name as RFC 4514 writes it: the last part first, and what has a meaning there escaped.
fn distinguished(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let attributes = part.iter().map(attribute);
        attributes.collect::<Vec<_>>().join("+")
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    let kind = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned);
    match attribute.as_str() {
        Ok(text) => format!("{kind}={}", escaped(text)),
        Err(_) => {
            let hex: String = attribute.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{kind}=#{hex}")
        }
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        match character {
            ' ' if index == 0 || index == last => escaped.push_str("\\ "),
            '#' if index == 0 => escaped.push_str("\\#"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', character]),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    escaped.push_str(&format!("\\{byte:02x}"));
                }
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_name_is_escaped() {
        for (text, name) in [
            ("plain", "plain"),
            (" a b ", "\\ a b\\ "),
            ("#1", "\\#1"),
            ("a,CN=b", "a\\,CN=b"),
            ("a+b<c>;\"\\", "a\\+b\\<c\\>\\;\\\"\\\\"),
            ("a\n\0", "a\\0a\\00"),
        ] {
            assert_eq!(escaped(text), name);
        }
    }
}
