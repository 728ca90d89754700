//! How an artifact in a registry is named: `oci://REGISTRY/NAME:TAG` or `oci://REGISTRY/NAME@sha256:DIGEST`.

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;
use plugsock::{Digest, without_password};

/// How such a name begins.
pub const SCHEME: &str = "oci://";

/// Names an artifact in a registry, by a tag that may come to mean another, or by its manifest's digest for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference(Reference);

impl FromStr for OciReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write oci://REGISTRY/NAME:TAG or oci://REGISTRY/NAME@sha256:DIGEST";
        let rest = text.strip_prefix(SCHEME);
        let text = without_password(text);
        let rest = rest.ok_or_else(|| format!("'{text}': {FORM}"))?;
        // Elsewhere `a/b` is short for something on one registry of somebody's.
        let registry = rest.split_once('/').map_or("", |(registry, _)| registry);
        if registry.is_empty() || !(registry.contains(['.', ':']) || registry == "localhost") {
            return Err(format!(
                "'{text}' names no registry: {FORM}, where REGISTRY is as in cr.example or localhost:5000"
            ));
        }
        let reference = Reference::from_str(rest)
            .map_err(|error| format!("'{text}' is not a reference: {error}; {FORM}"))?;
        match reference.digest().map(Digest::from_str) {
            Some(Err(_)) => Err(format!("'{text}': its digest is not SHA-256; {FORM}")),
            // However its hexadecimal digits were written.
            Some(Ok(digest)) => Ok(Self(reference).at(digest)),
            None => Ok(Self(reference)),
        }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0)
    }
}

impl OciReference {
    /// The registry's name, with its port if there is one.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// Where the registry is asked, which for one of them is not its name.
    pub fn host(&self) -> &str {
        self.0.resolve_registry()
    }

    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    /// The last part of the repository's name.
    pub fn name(&self) -> &str {
        let repository = self.repository();
        repository.rsplit_once('/').map_or(repository, |(_, name)| name)
    }

    /// The manifest's digest, where that is what names it.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest().and_then(|digest| digest.parse().ok())
    }

    /// The same, nailed to a manifest; the tag stays for whoever reads it.
    pub fn at(&self, digest: Digest) -> Self {
        let (registry, repository) = (self.0.registry().to_owned(), self.0.repository().to_owned());
        let digest = digest.to_string();
        Self(match self.0.tag() {
            Some(tag) => Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest),
            None => Reference::with_digest(registry, repository, digest),
        })
    }

    /// What a registry is asked for: the digest, or else the tag.
    pub fn asked(&self) -> &str {
        self.0.digest().or(self.0.tag()).unwrap_or("latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_they_are_shown() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for text in [
            "oci://cr.example/acme/echo:1.2".to_owned(),
            format!("oci://localhost:5000/echo@{digest}"),
            format!("oci://localhost/a/b/echo:1@{digest}"),
        ] {
            let reference: OciReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.name(), "echo");
        }
        let latest: OciReference = "oci://127.0.0.1:5000/echo".parse().unwrap();
        assert_eq!(latest.asked(), "latest");
        let upper: OciReference =
            format!("oci://localhost/echo@{}", digest.to_uppercase().replace("SHA", "sha")).parse().unwrap();
        assert_eq!(upper.digest(), digest.parse().ok());
        assert_eq!(upper.asked(), digest);
    }

    #[test]
    fn what_is_no_reference_is_told_why() {
        for (text, word) in [
            ("oci://", "names no registry"),
            ("oci://echo", "names no registry"),
            ("oci://acme/echo:1", "names no registry"),
            ("oci:///echo", "names no registry"),
            ("oci://cr.example/", "not a reference"),
            ("oci://cr.example/Echo", "not a reference"),
            ("oci://cr.example/echo:", "not a reference"),
            ("oci://cr.example/echo@sha256:12", "not a reference"),
            ("oci://cr.example/ec ho", "not a reference"),
            ("http://cr.example/echo", "write oci://"),
        ] {
            let error = text.parse::<OciReference>().unwrap_err();
            assert!(error.contains(word) && error.contains("oci://REGISTRY/NAME"), "{text}: {error}");
        }
        let sha512 = format!("oci://cr.example/echo@sha512:{}", "0a".repeat(64));
        assert!(sha512.parse::<OciReference>().unwrap_err().contains("not SHA-256"));
    }
}
