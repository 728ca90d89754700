//! The standard library for the target: found, or installed.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::cargo::output;
use crate::{Error, TARGET};

/// Makes sure that the compiler in use can build for [`TARGET`].
pub(crate) fn install() -> Result<(), Error> {
    if is_installed()? {
        return Ok(());
    }
    // Cargo's `rustup` proxy sets RUSTUP_TOOLCHAIN, so the target goes to the toolchain in use.
    match output(Command::new("rustup").args(["target", "add", TARGET])) {
        Ok(_) => Ok(()),
        // Another build script may have been installing it at the same time.
        Err(_) if is_installed()? => Ok(()),
        Err(error) => Err(Error::NoTarget { source: Box::new(error) }),
    }
}

fn is_installed() -> Result<bool, Error> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libdir = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    Ok(Path::new(libdir.trim()).is_dir())
}
