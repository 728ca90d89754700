//! Handlers in other languages, built from source by `plugsock new` and `plugsock build`.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use tempfile::TempDir;

use super::plugsock;

/// A project that `plugsock new` makes.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Project {
    pub language: &'static str,
    pub kind: &'static str,
    /// A file of `tests/languages`, and which of the project's it takes the place of.
    pub source: Option<(&'static str, &'static str)>,
}

impl Project {
    /// The project's component; `None`, and why, if a compiler is missing.
    ///
    /// What was built of the same sources before is taken again: the large ones take half a minute.
    pub fn build(&self) -> Option<PathBuf> {
        // Builds use all there is; two at a time would only take each other's memory.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());

        let directory = TempDir::new().unwrap();
        let folder = self.write(directory.path());
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages");
        let component =
            built.join(format!("{}-{}-{:016x}.wasm", self.language, self.kind, self.digest(&folder)));
        if component.exists() {
            return Some(component);
        }
        let packages = toolchains().join("node/node_modules");
        if folder.join("package.json").exists() && packages.exists() {
            // What `npm install` would bring.
            symlink(packages, folder.join("node_modules")).unwrap();
        }
        let output = with_toolchains(plugsock().arg("build").arg(&folder)).output().unwrap();
        if !is_there(&output) {
            return None;
        }
        succeeded(&output);
        assert_eq!(text(&output.stdout).trim_end(), folder.join("build/handler.wasm").display().to_string());
        fs::create_dir_all(&built).unwrap();
        // Beside it first, since another test process may build the same.
        let partial = built.join(format!("{}.partial", std::process::id()));
        fs::copy(folder.join("build/handler.wasm"), &partial).unwrap();
        fs::rename(&partial, &component).unwrap();
        Some(component)
    }

    fn write(&self, parent: &Path) -> PathBuf {
        let mut new = plugsock();
        new.current_dir(parent).args(["new", "handler", "--lang", self.language, "--kind", self.kind]);
        succeeded(&new.output().unwrap());
        let folder = parent.join("handler");
        if let Some((source, target)) = self.source {
            let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages");
            fs::copy(sources.join(source), folder.join(target)).unwrap();
        }
        folder
    }

    /// Over all that a component is made of: the project with the SDK, and the versions of the compilers.
    fn digest(&self, folder: &Path) -> u64 {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        for folder in [folder, &root.join("plugin-sdk/toolchains")] {
            hash_files(folder, &mut hasher);
        }
        hasher.finish()
    }
}

/// Where `plugin-sdk/toolchains/install` installs compilers.
fn toolchains() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/toolchains")
}

/// A command that finds the compilers which `plugin-sdk/toolchains/install` installs.
pub fn with_toolchains(command: &mut Command) -> &mut Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = [toolchains().join("bin")].into_iter().chain(env::split_paths(&path));
    // The project is another build than the one that runs the tests.
    for name in ["CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "CARGO_PROFILE_RELEASE_LTO", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
        .env("PATH", env::join_paths(directories).unwrap())
        // Crates are compiled for the first of them.
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cargo"))
}

/// Whether all compilers that a build needs are there; where all were installed, they have to be.
fn is_there(output: &Output) -> bool {
    let stderr = text(&output.stderr);
    let missing = stderr.contains("is not installed, or not on the PATH");
    if missing {
        assert!(env::var_os("PLUGSOCK_TEST_LANGUAGES").is_none(), "{stderr}");
        eprintln!("skipped: {}", stderr.trim_end());
    }
    !missing
}

pub fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hash_files(folder: &Path, hasher: &mut DefaultHasher) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        path.file_name().hash(hasher);
        match path.is_dir() {
            true => hash_files(&path, hasher),
            false => fs::read(&path).unwrap().hash(hasher),
        }
    }
}
