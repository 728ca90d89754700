//! Where a store is kept, as it is written.

use std::fmt;
use std::iter::{once, repeat};
use std::path::PathBuf;
use std::str::FromStr;

use crate::passwords::without_password;

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
        /// Certificates (PEM) of those who vouch for the server, in place of the system's list.
        ca: Option<PathBuf>,
    },
    /// In NATS, in a key-value bucket of JetStream's.
    Nats {
        /// The server.
        server: String,
        /// The bucket's name.
        bucket: String,
        /// Certificates (PEM) of those who vouch for the server, in place of the system's list.
        ca: Option<PathBuf>,
    },
}

/// The hash in Redis that is taken where none is named.
const HASH: &str = "plugsock";

/// Why a text is no [`StoreUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// It is none of the kinds that there are.
    #[error(
        "write memory, file:PATH, redis://HOST[:PORT][/DATABASE] or nats://HOST[:PORT]/BUCKET; with TLS rediss://… or tls://…"
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
        "'{0}' is not known: after a file's path may be ?durable=false, after a server's address ?ca=FILE, and after Redis's ?hash=NAME"
    )]
    Option(String),
    /// A hash could be on another server of a cluster than what is kept beside it.
    #[error("a hash's name has no braces")]
    Hash,
    /// What stands before the host has signs in it that end it.
    #[error("in a user's name and a password write %2F for /, %3F for ?, %23 for #, and %25 for %")]
    Password,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        parse(text).map_err(|error| match has_loose_signs(text) {
            true => StoreUrlError::Password,
            false => error,
        })
    }
}

fn parse(text: &str) -> Result<StoreUrl, StoreUrlError> {
    if text == "memory" {
        return Ok(StoreUrl::Memory);
    }
    match text.split_once("://") {
        Some(("redis" | "rediss", _)) => return parse_redis(text),
        Some(("nats" | "tls", _)) => return parse_nats(text),
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
    Ok(StoreUrl::File { path: path.into(), durable })
}

/// Whether a password has signs in it that make something else of what follows.
fn has_loose_signs(text: &str) -> bool {
    let before_host = text.split_once("://").and_then(|(_, rest)| Some(rest.rsplit_once('@')?.0));
    before_host.is_some_and(|before| before.contains(['/', '?', '#']))
}

/// An address, and the options after it by their names.
fn split_options<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<(&'a str, [Option<&'a str>; N]), StoreUrlError> {
    let (address, options) = text.split_once('?').unwrap_or((text, ""));
    let mut values = [None; N];
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let known = option.split_once('=').filter(|(_, value)| !value.is_empty());
        let known = known.and_then(|(name, value)| Some((names.iter().position(|it| *it == name)?, value)));
        let (number, value) = known.ok_or_else(|| StoreUrlError::Option(option.to_owned()))?;
        values[number] = Some(value);
    }
    Ok((address, values))
}

fn parse_redis(text: &str) -> Result<StoreUrl, StoreUrlError> {
    let (url, [hash, ca]) = split_options(text, ["hash", "ca"])?;
    let hash = hash.unwrap_or(HASH);
    if hash.contains(['{', '}']) {
        return Err(StoreUrlError::Hash);
    }
    // It only looks at the address.
    redis::Client::open(url).map_err(|error| StoreUrlError::Server(error.to_string()))?;
    Ok(StoreUrl::Redis { url: url.to_owned(), hash: hash.to_owned(), ca: ca.map(PathBuf::from) })
}

fn parse_nats(text: &str) -> Result<StoreUrl, StoreUrlError> {
    let (address, [ca]) = split_options(text, ["ca"])?;
    let (server, bucket) = address.rsplit_once('/').ok_or(StoreUrlError::Bucket)?;
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if server.ends_with(":/") || bucket.is_empty() || !bucket.bytes().all(is_sign) {
        return Err(StoreUrlError::Bucket);
    }
    let known: Result<async_nats::ServerAddr, _> = server.parse();
    known.map_err(|error| StoreUrlError::Server(error.to_string()))?;
    Ok(StoreUrl::Nats { server: server.to_owned(), bucket: bucket.to_owned(), ca: ca.map(PathBuf::from) })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File { path, durable } => {
                write!(f, "file:{}{}", path.display(), if *durable { "" } else { "?durable=false" })
            }
            Self::Redis { url, hash, ca } => {
                let hash = Some(hash).filter(|hash| *hash != HASH).map(|hash| format!("hash={hash}"));
                write_server(f, &without_password(url), [hash, ca_option(ca)])
            }
            Self::Nats { server, bucket, ca } => {
                write_server(f, &format!("{}/{bucket}", without_password(server)), [None, ca_option(ca)])
            }
        }
    }
}

fn ca_option(ca: &Option<PathBuf>) -> Option<String> {
    ca.as_ref().map(|ca| format!("ca={}", ca.display()))
}

fn write_server(f: &mut fmt::Formatter<'_>, server: &str, options: [Option<String>; 2]) -> fmt::Result {
    f.write_str(server)?;
    let options = options.into_iter().flatten();
    options.zip(once("?").chain(repeat("&"))).try_for_each(|(option, sign)| write!(f, "{sign}{option}"))
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
            "rediss://redis.example?hash=counts&ca=/etc/ca.pem",
            "tls://nats.example/counts?ca=ca.pem",
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        assert_eq!("file:///a.db?durable=true".parse::<StoreUrl>().unwrap().to_string(), "file:/a.db");
        assert_eq!("redis://a:secret@b/1".parse::<StoreUrl>().unwrap().to_string(), "redis://a:***@b/1");
        assert_eq!("nats://secret@b/c".parse::<StoreUrl>().unwrap().to_string(), "nats://***@b/c");
        for text in [
            "redis://",
            "redis://a?b=c",
            "redis://a?hash=",
            "redis://a?hash={b}c",
            "redis://a?ca",
            "nats://a/b?hash=c",
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
        for text in ["redis://a:b/c@d", "redis://a:b?c@d", "redis://a:b#c@d", "nats://a:b/c@d/e"] {
            assert_eq!(text.parse::<StoreUrl>(), Err(StoreUrlError::Password), "{text}");
        }
    }
}
