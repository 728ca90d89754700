//! Files that are there when they are whole, and not before.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use plugsock::shown;
use tempfile::Builder;

/// Writes a file beside, with the permissions that any other new file has, and puts it in its place when it is whole. What is no
/// file, such as a pipe or a device, is never replaced: it is written to.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(path, bytes).with_context(|| format!("cannot write {}", shown(path)))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    // What a link leads to is replaced, and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&path) {
        Ok(there) if there.is_dir() => bail!("it is a directory: name a file in it"),
        Ok(there) if !there.is_file() => {
            Ok(OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(bytes))?)
        }
        _ => Ok(replace(&path, bytes)?),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = Permissions::from_mode(0o666);
    let mut file = Builder::new().prefix(".partial-").permissions(permissions).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
