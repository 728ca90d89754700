//! What a component must be to be loaded at all: looked at before anything understands it, and once, so that
//! the bytes checked are the bytes loaded.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use minisign::SignatureBox;

use super::{Digest, Fetched};

/// What a component must be to be loaded.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The one component that may be loaded, unless a call names another; any by default.
    pub digest: Option<Digest>,
    /// Whose signatures count; where there are none, components need no signature.
    pub public_keys: Vec<PublicKey>,
    /// The largest component, in bytes (256 MiB).
    pub max_size: u64,
}

impl Default for Trust {
    fn default() -> Self {
        Self { digest: None, public_keys: Vec::new(), max_size: 256 << 20 }
    }
}

impl Trust {
    /// Refuses what was fetched and is not to be loaded; the signature that speaks for it, where one is required.
    pub fn check<'a>(&self, fetched: &'a Fetched) -> Result<Option<&'a str>, String> {
        let candidate = Candidate::fetched(fetched);
        candidate.check(self, self.digest)?;
        let speaks = |text: &&String| candidate.check_signature(text, &self.public_keys).is_ok();
        Ok(fetched.signatures.iter().find(speaks).map(String::as_str))
    }
}

/// A public key of minisign.
#[derive(Clone)]
pub struct PublicKey(minisign::PublicKey);

/// Why a text is no [`PublicKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no public key of minisign; `plugsock keygen` makes one")]
pub struct PublicKeyError;

/// From the key itself, or from all of its file.
impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let key = text.lines().rfind(|line| !line.trim().is_empty()).ok_or(PublicKeyError)?;
        minisign::PublicKey::from_base64(key.trim()).map(Self).map_err(|_| PublicKeyError)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.0.to_base64())
    }
}

impl PublicKey {
    /// Checks a signature of these bytes, and returns the comment that was signed with them.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<String, SignatureError> {
        let signature = parse_signature(signature)?;
        let checked = minisign::verify(&self.0, &signature, io::Cursor::new(bytes), true, false, true);
        checked.map_err(|_| SignatureError::Wrong)?;
        signature.trusted_comment().map_err(|_| SignatureError::Malformed)
    }
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is no signature of minisign.
    #[error("it is no signature of minisign")]
    Malformed,
    /// It is by another key, or of other bytes.
    #[error("it is by another key, or of another file")]
    Wrong,
}

/// Looks at the length of each part, which `minisign` takes for granted.
fn parse_signature(text: &str) -> Result<SignatureBox, SignatureError> {
    /// 74 and 64 bytes in base64.
    const SIGNATURE_LEN: usize = 100;
    const COMMENT_SIGNATURE_LEN: usize = 88;
    let lengths = |line: &str| line.trim().len();
    let is_whole = text.lines().nth(1).map(lengths) == Some(SIGNATURE_LEN)
        && text.lines().nth(3).map(lengths) == Some(COMMENT_SIGNATURE_LEN);
    let signature = is_whole.then(|| SignatureBox::from_string(text).ok()).flatten();
    signature.ok_or(SignatureError::Malformed)
}

/// The file that has a component's signature: `FILE.minisig` beside it.
pub fn signature_path(component: &Path) -> PathBuf {
    let mut path = OsString::from(component);
    path.push(".minisig");
    path.into()
}

/// The longest file of a signature or key that is read.
const SIGNATURE_MAX: u64 = 64 << 10;

/// A component's bytes as they were read, the only time they are, with what vouches for them.
pub(super) struct Candidate<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) digest: Digest,
    voucher: Voucher<'a>,
}

/// What vouches for a component.
enum Voucher<'a> {
    /// This executable: whoever trusts it trusts what it brings.
    BuiltIn,
    Memory,
    /// The process before this one, which has checked it.
    HandedOver,
    /// A file; where its signature was looked for, if one is required, and what is there.
    File(Option<(PathBuf, io::Result<String>)>),
    /// What a registry has of signatures.
    Registry(&'a [String]),
}

impl<'a> Candidate<'a> {
    pub(super) fn built_in(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.into(), digest: Digest::of(bytes), voucher: Voucher::BuiltIn }
    }

    pub(super) fn from_memory(bytes: &'a [u8]) -> Self {
        Self { voucher: Voucher::Memory, ..Self::built_in(bytes) }
    }

    pub(super) fn handed_over(bytes: &'a [u8]) -> Self {
        Self { voucher: Voucher::HandedOver, ..Self::built_in(bytes) }
    }

    pub(super) fn fetched(fetched: &'a Fetched) -> Self {
        Self { voucher: Voucher::Registry(&fetched.signatures), ..Self::built_in(&fetched.bytes) }
    }

    /// Reads a component and its signature, neither further than it may be long.
    pub(super) fn read(path: &Path, trust: &Trust) -> io::Result<Self> {
        let bytes = read_up_to(path, trust.max_size)?;
        let signature = (!trust.public_keys.is_empty()).then(|| {
            let path = signature_path(path);
            let read = read_up_to(&path, SIGNATURE_MAX);
            let text = read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (path, text)
        });
        Ok(Self { digest: Digest::of(&bytes), bytes: bytes.into(), voucher: Voucher::File(signature) })
    }

    /// Refuses what is not to be loaded; `pinned` is the one digest that is right.
    pub(super) fn check(&self, trust: &Trust, pinned: Option<Digest>) -> Result<(), String> {
        if self.bytes.len() as u64 > trust.max_size {
            return Err(too_large(trust.max_size));
        }
        if let Some(pinned) = pinned.filter(|pinned| *pinned != self.digest) {
            return Err(format!("its digest is {}, and {pinned} is wanted (--digest)", self.digest));
        }
        match &self.voucher {
            _ if trust.public_keys.is_empty() => Ok(()),
            Voucher::BuiltIn | Voucher::HandedOver => Ok(()),
            Voucher::File(Some((path, Ok(signature)))) => {
                self.check_signature(signature, &trust.public_keys).map_err(|error| {
                    format!(
                        "the signature {} is not valid: {error} (--public-key names whose count)",
                        path.display()
                    )
                })
            }
            Voucher::File(Some((path, Err(error)))) => Err(format!(
                "a signature is required, and {} cannot be read: {error}; `plugsock sign` makes one",
                path.display()
            )),
            Voucher::File(None) | Voucher::Memory => {
                Err("a signature is required, and only a file has one beside it".to_owned())
            }
            Voucher::Registry([]) => {
                Err("a signature is required, and the registry has none of it; `plugsock push` \
                                          brings FILE.minisig there, which `plugsock sign` makes"
                    .to_owned())
            }
            Voucher::Registry(signatures) => {
                let checked = signatures.iter().map(|text| self.check_signature(text, &trust.public_keys));
                // Of several, by several people, one is enough.
                checked
                    .reduce(Result::or)
                    .unwrap_or(Ok(()))
                    .map_err(|error| format!("no signature that the registry has of it is valid: {error}"))
            }
        }
    }

    /// By any of these keys.
    fn check_signature(&self, signature: &str, keys: &[PublicKey]) -> Result<(), SignatureError> {
        let mut verdicts = keys.iter().map(|key| key.verify(&self.bytes, signature));
        let verdict = verdicts.find(|verdict| *verdict != Err(SignatureError::Wrong));
        verdict.unwrap_or(Err(SignatureError::Wrong)).map(drop)
    }
}

fn too_large(max: u64) -> String {
    format!("it is larger than {max} bytes, the most that is loaded (--max-component-size)")
}

/// A whole file, of which no more is read than `max` bytes.
fn read_up_to(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    if size <= max {
        bytes.reserve_exact(size as usize);
        // Also a file that grows, or has no end.
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    match size > max || bytes.len() as u64 > max {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large(max))),
        false => Ok(bytes),
    }
}
