//! The contract's text, for people who bring their own tools.

use std::path::Path;

use wit_parser::{Resolve, WorldId};

use crate::{Error, write_files};

/// The contract itself.
pub const CONTRACT: &str = include_str!("../../wit/handler.wit");

/// The contract and what it uses of WASI, as the files of a folder.
pub(crate) const FILES: [(&str, &str); 6] = [
    ("handler.wit", CONTRACT),
    ("deps/cli.wit", include_str!("../../wit/deps/cli.wit")),
    ("deps/clocks.wit", include_str!("../../wit/deps/clocks.wit")),
    ("deps/io.wit", include_str!("../../wit/deps/io.wit")),
    ("deps/keyvalue.wit", include_str!("../../wit/deps/keyvalue.wit")),
    ("deps/sockets.wit", include_str!("../../wit/deps/sockets.wit")),
];

/// Writes the contract and what it uses of WASI into a folder, as binding generators expect them.
pub fn write_wit(folder: &Path) -> Result<(), Error> {
    write_files(folder, FILES)
}

/// What answers HTTP exports, and what it may use; templates have it, too.
const PROXY: &str = include_str!("../../templates/proxy.wit");

/// The world of what answers HTTP.
pub(crate) fn resolve_http() -> anyhow::Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("proxy.wit", PROXY)?;
    let world = resolve.select_world(&[package], Some("proxy"))?;
    Ok((resolve, world))
}

/// The contract as `wit-parser` sees it, with one of its worlds.
pub(crate) fn resolve(world: &str) -> anyhow::Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    // What the contract uses comes before it.
    let packages = FILES.iter().rev().map(|(path, text)| resolve.push_source(path, text));
    let package = packages.last().expect("the contract is the last")?;
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}
