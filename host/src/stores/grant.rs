//! `--state NAME=URL`: a store that handlers may open, as it is written.

use std::fmt;
use std::str::FromStr;

use super::url::{StoreUrl, StoreUrlError};

/// A store that handlers may open by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateGrant {
    /// What handlers call it.
    pub name: String,
    /// Where it is kept.
    pub url: StoreUrl,
    /// Whether they may only read it.
    pub read_only: bool,
}

/// Why a text is no [`StateGrant`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateGrantError {
    /// It has no name, or one that is none.
    #[error(
        "write NAME=URL or NAME:ro=URL, as in counts=file:counts.db; a name has 1 to 64 letters, digits and the signs . _ -"
    )]
    Name,
    /// What it says of the place is wrong.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
}

impl FromStr for StateGrant {
    type Err = StateGrantError;

    fn from_str(text: &str) -> Result<Self, StateGrantError> {
        let (name, url) = text.split_once('=').ok_or(StateGrantError::Name)?;
        let (name, read_only) = match name.split_once(':') {
            None | Some((_, "rw")) => (name.split(':').next().unwrap_or_default(), false),
            Some((name, "ro")) => (name, true),
            Some(_) => return Err(StateGrantError::Name),
        };
        let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_sign) {
            return Err(StateGrantError::Name);
        }
        Ok(Self { name: name.to_owned(), url: url.parse()?, read_only })
    }
}

impl fmt::Display for StateGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, url, read_only } = self;
        write!(f, "{name}{}={url}", if *read_only { ":ro" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in ["counts=memory", "a-b_c.d:ro=file:/a=b.db"] {
            assert_eq!(text.parse::<StateGrant>().unwrap().to_string(), text);
        }
        assert_eq!("a:rw=memory".parse::<StateGrant>().unwrap().to_string(), "a=memory");
        for text in ["", "memory", "=memory", "a b=memory", "a:x=memory", ":ro=memory"] {
            assert_eq!(text.parse::<StateGrant>(), Err(StateGrantError::Name), "{text}");
        }
        assert_eq!("a=nowhere".parse::<StateGrant>(), Err(StoreUrlError::Unknown.into()));
    }
}
