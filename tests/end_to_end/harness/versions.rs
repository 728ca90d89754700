//! Handlers to swap: versions of one guest that answer each line with their own names.

use std::path::{Path, PathBuf};

use plugsock::{Handler, Server};
use tempfile::TempDir;

use super::wasm::section;
use super::{Client, cache_dir, guest, sandbox};

/// Where the guest's name begins, and how long it is.
const MARK: &[u8] = b"version-name:";
const LENGTH: usize = 3;

/// The component of the guest `versioned` under another name of three letters.
pub fn versioned(name: &str) -> Vec<u8> {
    named("versioned", name)
}

/// The same of the guest `http_versioned`.
pub fn http_versioned(name: &str) -> Vec<u8> {
    named("http_versioned", name)
}

fn named(of: &str, name: &str) -> Vec<u8> {
    assert_eq!(name.len(), LENGTH);
    let mut component = std::fs::read(guest(of)).unwrap();
    let at = component.windows(MARK.len()).position(|bytes| bytes == MARK).expect("the guest has a name");
    component[at + MARK.len()..][..LENGTH].copy_from_slice(name.as_bytes());
    component
}

/// That component, loaded.
pub fn version(name: &str) -> Handler {
    sandbox().load_bytes(name, &versioned(name)).unwrap()
}

/// A component that does the same and has another digest.
pub fn relabelled(component: Vec<u8>, label: &str) -> Vec<u8> {
    with_section(component, label.as_bytes())
}

/// A component that does the same and is larger.
pub fn padded(component: Vec<u8>, length: usize) -> Vec<u8> {
    with_section(component, &vec![0; length])
}

/// Adds a section that nobody reads.
fn with_section(component: Vec<u8>, data: &[u8]) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    [component, section(CUSTOM, &[b"\x05label", data].concat())].concat()
}

/// The name of the version that answers a server's clients.
pub fn who(server: &Server) -> String {
    let answer = Client::ask(&server.address(), b"who?\n");
    let answer = String::from_utf8(answer).unwrap();
    answer.strip_suffix(" who?\n").unwrap_or(&answer).to_owned()
}

/// A directory with a handler's file that is replaced in one way or another.
pub struct Deployed {
    directory: TempDir,
    pub file: PathBuf,
}

impl Deployed {
    pub fn new(component: &[u8]) -> Self {
        // Where the tests' cache is, so that a file can be renamed and linked.
        std::fs::create_dir_all(cache_dir()).unwrap();
        let directory = TempDir::new_in(cache_dir().parent().unwrap()).unwrap();
        let file = directory.path().join("handler.wasm");
        std::fs::write(&file, component).unwrap();
        Self { directory, file }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self) -> String {
        self.file.display().to_string()
    }

    /// Puts another component in its place, whole at once.
    pub fn replace(&self, component: &[u8]) {
        replace(&self.file, component);
    }
}

/// Puts a component in the place of a file, whole at once.
pub fn replace(file: &Path, component: &[u8]) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, component).unwrap();
    std::fs::rename(&beside, file).unwrap();
}
