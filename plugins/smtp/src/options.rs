//! The handler's arguments.

use std::net::SocketAddr;

use crate::trace::literal;

const DEFAULT_SIZE: u64 = 10 * 1024 * 1024;

/// What the operator decides.
pub struct Options {
    /// How the server calls itself.
    pub name: String,
    /// How long a message may be, in bytes.
    pub max_size: u64,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
}

impl Options {
    /// `[--name NAME] [--max-size BYTES] [--no-starttls]`; a server without a name goes by its address.
    pub fn parse(
        mut args: impl Iterator<Item = String>,
        address: Option<SocketAddr>,
    ) -> Result<Self, OptionError> {
        let name = address.map_or("localhost".to_owned(), |address| literal(address.ip()));
        let mut options = Options { name, max_size: DEFAULT_SIZE, starttls: true };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| OptionError(format!("{option} has no value")));
            match option.as_str() {
                "--name" => options.name = value()?,
                "--max-size" => {
                    let size = value()?;
                    let wrong = |_| OptionError(format!("{size} is no number of bytes"));
                    options.max_size = size.parse().map_err(wrong)?;
                }
                "--no-starttls" => options.starttls = false,
                _ => return Err(OptionError(format!("there is no option {option}"))),
            }
        }
        Ok(options)
    }
}

/// What is wrong with the arguments.
#[derive(Debug)]
pub struct OptionError(String);

impl std::error::Error for OptionError {}

impl std::fmt::Display for OptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let address = "192.0.2.1:25".parse().ok();
        Options::parse(args.iter().map(|&arg| arg.to_owned()), address).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.name.as_str(), options.max_size), ("[192.0.2.1]", 10 << 20));
        let options = parse(&["--max-size", "1", "--name", "mx.example.org", "--no-starttls"]).unwrap();
        assert_eq!((options.name.as_str(), options.max_size), ("mx.example.org", 1));
        assert!(!options.starttls);
    }

    #[test]
    fn a_mistake_is_said() {
        for args in [&["--size"][..], &["--max-size"], &["--max-size", "10M"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
