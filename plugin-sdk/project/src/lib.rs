//! Handler projects in any language.
//!
//! - [`contract`](CONTRACT): the contract's text.
//! - [`Language`], [`write_sdk`]: what a handler in some language is built with.
//! - [`new`]: a project from a template.
//! - [`build`]: a project's component, by its language's own tools.
//! - [`componentize`]: a core module becomes a component.

use std::fs;
use std::path::Path;

mod build;
mod componentize;
mod contract;
mod error;
mod language;
mod sdk;
mod template;

pub use build::build;
pub use componentize::componentize;
pub use contract::{CONTRACT, write_wit};
pub use error::Error;
pub use language::{Kind, Language};
pub use sdk::write_sdk;
pub use template::new;

/// Writes files with their folders, and leaves those alone that are the same already: build tools look at
/// times.
pub(crate) fn write_files<P: AsRef<Path>, T: AsRef<[u8]>>(
    folder: &Path,
    files: impl IntoIterator<Item = (P, T)>,
) -> Result<(), Error> {
    for (path, text) in files {
        let path = folder.join(path);
        if fs::read(&path).is_ok_and(|old| old == text.as_ref()) {
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Error::writing(parent))?;
        fs::write(&path, text).map_err(Error::writing(&path))?;
    }
    Ok(())
}
