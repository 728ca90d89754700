//! Where a store is kept, as it is written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a store is kept.
///
/// ```
/// let url: plugsock::StoreUrl = "file:/var/lib/app/counts.db".parse()?;
/// assert_eq!(url.to_string(), "file:/var/lib/app/counts.db");
/// # Ok::<(), plugsock::StoreUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// In the process's memory.
    Memory,
    /// In a file, which several processes may have open at once.
    File {
        /// The file.
        path: PathBuf,
        /// Whether what was written survives a loss of power; it survives the end of the process in any case.
        durable: bool,
    },
}

/// Why a text is no [`StoreUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// It is none of the kinds that there are.
    #[error("write memory or file:PATH")]
    Unknown,
    /// A file has no name.
    #[error("there is no path after file:")]
    NoPath,
    /// What follows a question mark is not known.
    #[error("'{0}' is no option of a file: write ?durable=false or nothing after its path")]
    Option(String),
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        let Some(rest) = text.strip_prefix("file:") else { return Err(StoreUrlError::Unknown) };
        // `file:///path` is the same as `file:/path`.
        let rest = rest.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(rest);
        let (path, durable) = match rest.split_once('?') {
            None | Some((_, "durable=true")) => (rest.split('?').next().unwrap_or_default(), true),
            Some((path, "durable=false")) => (path, false),
            Some((_, option)) => return Err(StoreUrlError::Option(option.to_owned())),
        };
        if path.is_empty() {
            return Err(StoreUrlError::NoPath);
        }
        Ok(Self::File { path: path.into(), durable })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File { path, durable } => {
                write!(f, "file:{}{}", path.display(), if *durable { "" } else { "?durable=false" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in ["memory", "file:counts.db", "file:/var/lib/counts.db?durable=false"] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        assert_eq!("file:///a.db?durable=true".parse::<StoreUrl>().unwrap().to_string(), "file:/a.db");
        for text in ["", "file", "file:", "file:?durable=false", "file:a?durable=no", "memory:x", "http://a"]
        {
            assert!(text.parse::<StoreUrl>().is_err(), "{text}");
        }
    }
}
