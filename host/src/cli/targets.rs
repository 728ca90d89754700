//! Which addresses are served by which handler.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use plugsock::{AddressError, ServeAddress, one_line};

use super::handler_source::HandlerSource;
use super::registry::SCHEME;

const DEFAULT_ADDRESS: &str = "tcp://127.0.0.1:10001";

/// A handler and what it serves.
#[derive(Debug)]
pub struct Target {
    pub addresses: Vec<ServeAddress>,
    pub handler: HandlerSource,
}

/// What is served where there is nothing else to serve.
pub fn default_address() -> ServeAddress {
    DEFAULT_ADDRESS.parse().expect("it is well-formed")
}

/// Sorts a command line's addresses and handlers: a handler serves the addresses before it, and if it is the
/// only one those after it too.
pub fn sort_targets(
    targets: &[OsString],
    handler: Option<HandlerSource>,
) -> Result<Vec<Target>, clap::Error> {
    let mut sorted: Vec<Target> = Vec::new();
    let mut addresses: Vec<ServeAddress> = Vec::new();
    for target in targets {
        // What has a colon and is no file was meant to be an address, too.
        let is_address = |text: &&str| {
            let is_file = || Path::new(text).exists();
            !text.starts_with(SCHEME) && (text.contains("://") || (text.contains(':') && !is_file()))
        };
        // A file may have any name.
        if let Some(address) = target.to_str().filter(is_address) {
            addresses.push(address.parse().map_err(|error: AddressError| wrong(error.to_string()))?);
        } else {
            let handler = HandlerSource::parse(target.clone()).map_err(wrong)?;
            sorted.push(Target { addresses: std::mem::take(&mut addresses), handler });
        }
    }
    if handler.is_some() || sorted.is_empty() {
        let handler = handler.unwrap_or(HandlerSource::Echo);
        sorted.push(Target { addresses: std::mem::take(&mut addresses), handler });
    }
    if let [only] = &mut sorted[..] {
        only.addresses.append(&mut addresses);
    }
    if let Some(address) = addresses.first() {
        return Err(wrong(format!("{address} has no handler: name one after it")));
    }
    if sorted.len() > 1
        && let Some(idle) = sorted.iter().find(|target| target.addresses.is_empty())
    {
        let handler = &idle.handler;
        return Err(wrong(format!(
            "of several handlers {handler} has no address: name what each serves before it"
        )));
    }
    Ok(sorted)
}

fn wrong(message: String) -> clap::Error {
    clap::Error::raw(ErrorKind::InvalidValue, format!("{}\n", one_line(&message)))
}
