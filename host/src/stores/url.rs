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
    /// In Redis, in a hash.
    Redis {
        /// The server and its database.
        url: String,
        /// The hash's name.
        hash: String,
    },
    /// In NATS, in a key-value bucket of JetStream's.
    Nats {
        /// The server.
        server: String,
        /// The bucket's name.
        bucket: String,
    },
}

/// The hash in Redis that is taken where none is named.
const HASH: &str = "plugsock";

/// Why a text is no [`StoreUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// It is none of the kinds that there are.
    #[error(
        "write memory, file:PATH, redis://HOST[:PORT][/DATABASE], rediss://… for TLS, or nats://HOST[:PORT]/BUCKET"
    )]
    Unknown,
    /// It leads to no server.
    #[error("it is no address of a server: {0}")]
    Server(String),
    /// A server's address has no bucket's name.
    #[error("write the bucket's name last, in letters, digits, - and _, as in nats://127.0.0.1:4222/counts")]
    Bucket,
    /// A file has no name.
    #[error("there is no path after file:")]
    NoPath,
    /// What follows a question mark is not known.
    #[error(
        "'{0}' is not known: after a file's path may be ?durable=false, and after Redis's address ?hash=NAME"
    )]
    Option(String),
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            Some(("redis" | "rediss", _)) => return parse_redis(text),
            Some(("nats", _)) => return parse_nats(text),
            _ => {}
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

fn parse_redis(text: &str) -> Result<StoreUrl, StoreUrlError> {
    let (url, hash) = match text.split_once('?') {
        None => (text, HASH),
        Some((url, option)) => match option.strip_prefix("hash=").filter(|hash| !hash.is_empty()) {
            Some(hash) => (url, hash),
            None => return Err(StoreUrlError::Option(option.to_owned())),
        },
    };
    // It only looks at the address.
    redis::Client::open(url).map_err(|error| StoreUrlError::Server(error.to_string()))?;
    Ok(StoreUrl::Redis { url: url.to_owned(), hash: hash.to_owned() })
}

fn parse_nats(text: &str) -> Result<StoreUrl, StoreUrlError> {
    let (server, bucket) = text.rsplit_once('/').ok_or(StoreUrlError::Bucket)?;
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if server == "nats:/" || bucket.is_empty() || !bucket.bytes().all(is_sign) {
        return Err(StoreUrlError::Bucket);
    }
    let known: Result<async_nats::ServerAddr, _> = server.parse();
    known.map_err(|error| StoreUrlError::Server(error.to_string()))?;
    Ok(StoreUrl::Nats { server: server.to_owned(), bucket: bucket.to_owned() })
}

/// Without what lets one in.
fn without_secrets(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://***@{rest}"),
        None => url.to_owned(),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File { path, durable } => {
                write!(f, "file:{}{}", path.display(), if *durable { "" } else { "?durable=false" })
            }
            Self::Redis { url, hash } if hash == HASH => f.write_str(&without_secrets(url)),
            Self::Redis { url, hash } => write!(f, "{}?hash={hash}", without_secrets(url)),
            Self::Nats { server, bucket } => write!(f, "{}/{bucket}", without_secrets(server)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in [
            "memory",
            "file:counts.db",
            "file:/var/lib/counts.db?durable=false",
            "redis://localhost",
            "rediss://redis.example:6380/3?hash=counts",
            "nats://127.0.0.1:4222/counts",
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        assert_eq!("file:///a.db?durable=true".parse::<StoreUrl>().unwrap().to_string(), "file:/a.db");
        assert_eq!("redis://a:secret@b/1".parse::<StoreUrl>().unwrap().to_string(), "redis://***@b/1");
        assert_eq!("nats://secret@b/c".parse::<StoreUrl>().unwrap().to_string(), "nats://***@b/c");
        for text in [
            "redis://",
            "redis://a?b=c",
            "redis://a?hash=",
            "nats://a",
            "nats://a/",
            "nats://a/b.c",
            "",
            "file",
            "file:",
            "file:?durable=false",
            "file:a?durable=no",
            "memory:x",
            "http://a",
        ] {
            assert!(text.parse::<StoreUrl>().is_err(), "{text}");
        }
    }
}
