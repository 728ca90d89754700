//! What a trap leaves for a debugger: a core dump, in a file of its own in the directory that the operator names.
//!
//! A guest can trap as often as it is called, so there are no more files than the operator wants, none is larger,
//! and nothing is made while another is: what a dump takes of memory is taken once. With forking the child that
//! has trapped makes the dump and hands it over in a sealed file; its host names it, looks at its size, and writes.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::SystemTime;

use rustix::fs::SealFlags;
use tokio::sync::oneshot;
use wasmtime::{GlobalType, HeapType, Store, ValType, WasmCoreDump};

use super::partial_file::{partial_file, remove_abandoned};
use super::sealed_file::{explained, open_sealed, sealed_file};
use super::state::State;
use crate::error::{Phase, shown};
use crate::log_limit::LogLimit;
use crate::request::Waits;

/// Where core dumps are left, and how many.
#[derive(Clone, Debug)]
pub struct CoreDumpOptions {
    /// Their directory; it is made if it does not exist.
    pub directory: PathBuf,
    /// How many it may hold (10). While it holds so many, what would be another is left out.
    pub count: usize,
    /// How large one may be, in bytes (64 MiB). What would be larger is left out.
    pub size: u64,
}

impl CoreDumpOptions {
    /// The default bounds, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), count: 10, size: 64 << 20 }
    }
}

/// What a core dump is of.
pub(crate) struct Subject<'a> {
    pub(crate) handler: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) request: u64,
    pub(crate) phase: Phase,
}

/// What becomes of traps in one sandbox.
pub(crate) enum CoreDumps {
    /// They leave nothing.
    None,
    Directory(Arc<Directory>),
    /// For a child of a fork server, which reaches no file.
    Host {
        size: u64,
        host: OnceLock<HandOver>,
    },
}

/// How a core dump, sealed, comes to whoever writes it.
pub(crate) type HandOver = Box<dyn Fn(Phase, OwnedFd) -> io::Result<()> + Send + Sync>;

/// How the name of a core dump ends.
const EXTENSION: &str = ".coredump";

/// How much memory wasmtime puts into one segment of data, without the zeros around it.
const CHUNK: usize = 4096;

/// The most that a segment has besides.
const SEGMENT_HEAD: u64 = 20;

/// How many segments those who read modules put up with.
const SEGMENTS_MAX: u64 = 100_000;

impl CoreDumps {
    /// Fails if the directory cannot be made or written to.
    pub(super) fn open(options: Option<&CoreDumpOptions>) -> io::Result<Self> {
        let Some(options) = options else { return Ok(Self::None) };
        // In the log the file's whole path is of more use.
        let directory = std::path::absolute(&options.directory)?;
        let options = CoreDumpOptions { directory, ..*options };
        DirBuilder::new().recursive(true).mode(0o700).create(&options.directory)?;
        partial_file(&options.directory)?;
        remove_abandoned(&options.directory)?;
        let (state, none_pending, writing) = Default::default();
        Ok(Self::Directory(Arc::new(Directory { options, state, none_pending, writing })))
    }

    /// For a child of a fork server, if its host keeps core dumps of so many bytes.
    pub(super) fn for_host(size: Option<u64>) -> Self {
        size.map_or(Self::None, |size| Self::Host { size, host: OnceLock::new() })
    }

    pub(super) fn are_made(&self) -> bool {
        self.size().is_some()
    }

    /// How large one may be, if any is made.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Directory(directory) => Some(directory.options.size),
            Self::Host { size, .. } => Some(*size),
        }
    }

    /// Says how this child reaches its host.
    pub(crate) fn hand_over_by(&self, hand_over: HandOver) {
        if let Self::Host { host, .. } = self {
            let _ = host.set(hand_over);
        }
    }

    /// Makes the core dump of a guest that ended by this trap; the file, if there is one in this process. Where others
    /// share the thread they do not wait for it.
    pub(super) async fn keep(
        &self,
        subject: &Subject<'_>,
        mut store: Store<State>,
        trap: wasmtime::Error,
        waits: Waits,
    ) -> Option<PathBuf> {
        let name = subject.handler.to_owned();
        match self {
            Self::None => None,
            Self::Host { size, host } => {
                let kept = serialize(&mut store, &trap, &name, *size).and_then(|dump| {
                    let sealed = sealed_file("core dump", &dump).map_err(|error| error.to_string())?;
                    let hand_over = host.get().ok_or("there is no host to keep it")?;
                    hand_over(subject.phase, sealed).map_err(|error| error.to_string())
                });
                kept.unwrap_or_else(|reason| warn(subject.request, &reason));
                None
            }
            Self::Directory(directory) => {
                let (place, size) = (directory.begin(subject)?, directory.options.size);
                let write = move || {
                    place.write(|file| {
                        let dump = serialize(&mut store, &trap, &name, size)?;
                        file.write_all(&dump).map_err(|error| explained(error).to_string())
                    })
                };
                match waits {
                    Waits::Thread => write(),
                    Waits::Task => elsewhere(write, subject.request).await,
                }
            }
        }
    }

    /// Keeps what a child has handed over, who may be anybody by now; the file, unless it cannot be written in
    /// the end.
    pub(crate) fn keep_sealed(&self, subject: &Subject<'_>, dump: OwnedFd) -> Option<PathBuf> {
        let Self::Directory(directory) = self else { return None };
        let place = directory.begin(subject)?;
        let (path, max) = (place.path.clone(), directory.options.size);
        let write = move || {
            place.write(|file| copy_sealed(dump, max, file).map_err(|error| explained(error).to_string()))
        };
        match thread::Builder::new().name("core-dump".to_owned()).spawn(write) {
            Ok(_) => Some(path),
            Err(error) => {
                warn(subject.request, &format!("no thread for it: {error}"));
                None
            }
        }
    }
}

/// What is still being written is.
impl Drop for CoreDumps {
    fn drop(&mut self) {
        if let Self::Directory(directory) = self {
            let pending = directory.none_pending.wait_while(directory.state(), |state| state.pending > 0);
            drop(pending);
        }
    }
}

async fn elsewhere(
    write: impl FnOnce() -> Option<PathBuf> + Send + 'static,
    request: u64,
) -> Option<PathBuf> {
    let (done, written) = oneshot::channel();
    let write = move || {
        let _ = done.send(write());
    };
    match thread::Builder::new().name("core-dump".to_owned()).spawn(write) {
        Ok(_) => written.await.ok().flatten(),
        Err(error) => {
            warn(request, &format!("no thread for it: {error}"));
            None
        }
    }
}

fn warn(request: u64, reason: &str) {
    tracing::warn!(request, "no core dump is kept: {reason}");
}

/// Where core dumps are files.
pub(crate) struct Directory {
    options: CoreDumpOptions,
    state: Mutex<Pending>,
    none_pending: Condvar,
    /// Held while one is made.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Pending {
    /// How many are about to be files.
    pending: usize,
    left_out: LogLimit,
}

impl Directory {
    fn state(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for one more, if there may be one more.
    fn begin(self: &Arc<Self>, subject: &Subject<'_>) -> Option<Place> {
        let CoreDumpOptions { directory, count, .. } = &self.options;
        let mut state = self.state();
        let found = match count_files(directory) {
            Ok(found) => found,
            Err(error) => {
                warn(subject.request, &error.to_string());
                return None;
            }
        };
        if found + state.pending >= *count {
            let directory = shown(directory);
            state.left_out.run(|unsaid| {
                tracing::warn!(
                    request = subject.request,
                    unsaid,
                    "no core dump is kept: {directory} has {found} of at most {count}; move them away for others"
                );
            });
            return None;
        }
        state.pending += 1;
        let path = directory.join(file_name(subject, SystemTime::now()));
        Some(Place { directory: self.clone(), request: subject.request, path })
    }
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let is_dump = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().ends_with(EXTENSION.as_bytes());
    Ok(fs::read_dir(directory)?.flatten().filter(is_dump).count())
}

/// Handler, digest, time, request and phase, in what every file system takes for a name.
fn file_name(subject: &Subject<'_>, time: SystemTime) -> String {
    const NAME_MAX: usize = 64;
    let Subject { handler, digest, request, phase } = subject;
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let plain = |text: &str| -> String {
        text.chars().take(NAME_MAX).map(|it| if is_plain(it) { it } else { '_' }).collect()
    };
    let digest: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
    let time = humantime::format_rfc3339_millis(time).to_string().replace([':', '-'], "");
    let (handler, phase) = (plain(handler), plain(&phase.to_string()));
    // What begins with a dot would be hidden.
    format!("{}-{digest}-{time}-{request}-{phase}{EXTENSION}", handler.trim_start_matches('.'))
}

/// A core dump that is to be written.
struct Place {
    directory: Arc<Directory>,
    request: u64,
    path: PathBuf,
}

impl Place {
    fn write(self, fill: impl FnOnce(&mut File) -> Result<(), String>) -> Option<PathBuf> {
        let _one = self.directory.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = partial_file(&self.directory.options.directory).map_err(|error| error.to_string());
        let written = file.and_then(|mut file| {
            fill(file.as_file_mut())?;
            // Whatever has this name stays.
            file.persist_noclobber(&self.path).map_err(|error| error.to_string())
        });
        match written {
            Ok(_) => Some(self.path.clone()),
            Err(reason) => {
                warn(self.request, &reason);
                None
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.directory.state().pending -= 1;
        self.directory.none_pending.notify_all();
    }
}

/// Copies a file that is sealed, and so neither changes meanwhile nor keeps its reader waiting.
fn copy_sealed(dump: OwnedFd, max: u64, to: &mut File) -> io::Result<()> {
    let seals = rustix::fs::fcntl_get_seals(dump.as_fd());
    if !seals.is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW)) {
        return Err(io::Error::other("what the process handed over is no sealed file"));
    }
    io::copy(&mut open_sealed(dump, max)?, to)?;
    Ok(())
}

/// The core dump of a guest, of at most `max` bytes.
fn serialize(
    store: &mut Store<State>,
    trap: &wasmtime::Error,
    name: &str,
    max: u64,
) -> Result<Vec<u8>, String> {
    let dump = trap.downcast_ref::<WasmCoreDump>().ok_or("wasmtime has made none")?;
    let too_large = || format!("it would have more than {max} bytes; raise --coredump-size");
    if !dump.globals().iter().all(|global| can_be_written(&global.ty(&*store))) {
        return Err("it has a global variable of a type that no core dump holds".to_owned());
    }
    if !fits(dump, store, max) {
        return Err(too_large());
    }
    let made = catch_unwind(AssertUnwindSafe(|| dump.serialize(&mut *store, name)));
    let bytes = made.map_err(|_| "wasmtime panicked; please report this")?;
    if bytes.len() as u64 <= max { Ok(bytes) } else { Err(too_large()) }
}

/// Whether wasmtime has a way to write such a global variable; it panics otherwise.
fn can_be_written(global: &GlobalType) -> bool {
    match global.content() {
        ValType::Ref(reference) => {
            matches!(reference.heap_type().top(), HeapType::Extern | HeapType::Func | HeapType::Any)
        }
        _ => true,
    }
}

/// Whether the memories' content has room in so many bytes, found out before any is copied.
fn fits(dump: &WasmCoreDump, store: &Store<State>, max: u64) -> bool {
    let (mut size, mut segments) = (0, 0);
    for chunk in dump.memories().iter().flat_map(|memory| memory.data(store).chunks(CHUNK)) {
        if let Some(first) = chunk.iter().position(|byte| *byte != 0) {
            let last = chunk.iter().rposition(|byte| *byte != 0).unwrap_or(first);
            size += (last - first + 1) as u64 + SEGMENT_HEAD;
            segments += 1;
        }
        if size > max || segments > SEGMENTS_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_is_plain_whatever_the_handler_is_called() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let subject = |handler| Subject { handler, digest: &digest, request: 7, phase: Phase::Verify };
        let name = |handler| file_name(&subject(handler), SystemTime::UNIX_EPOCH);
        let rest = "-0123456789ab-19700101T000000.000Z-7-verify-request.coredump";
        assert_eq!(name("echo.wasm"), format!("echo.wasm{rest}"));
        assert_eq!(name("../../etc/passwd"), format!("_.._etc_passwd{rest}"));
        assert_eq!(name("nul\0 \u{e9}\n"), format!("nul____{rest}"));
        assert!(name(&"a".repeat(1000)).len() < 200);
    }

    #[test]
    fn what_is_not_sealed_or_too_large_is_not_copied() {
        let mut to = tempfile::tempfile().unwrap();
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let unsealed = super::super::sealed_file::memfd("unsealed").unwrap();
        let large = sealed_file("large", &[1; 11]).unwrap();
        for dump in [pipe, file, unsealed, large] {
            assert!(copy_sealed(dump, 10, &mut to).is_err());
        }
        assert_eq!(to.metadata().unwrap().len(), 0);
        copy_sealed(sealed_file("dump", &[1; 10]).unwrap(), 10, &mut to).unwrap();
        assert_eq!(to.metadata().unwrap().len(), 10);
    }
}
