//! Servers in this process, to test the library.

use std::mem;
use std::ops::Deref;
use std::panic;
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use plugsock::{
    CacheOptions, CompileOptions, Handler, Sandbox, SandboxOptions, ServeAddress, ServeError, Server,
    ServerOptions, ServerType, Slot,
};
use tempfile::TempDir;

use super::panics::PanickingLog;
use super::{Case, Client, PATIENCE, cache_dir, guest};

/// The sandbox that the servers of this process share.
pub fn sandbox() -> &'static Sandbox {
    static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| Sandbox::new(sandbox_options()).unwrap());
    &SANDBOX
}

/// The default options with the tests' cache.
pub fn sandbox_options() -> SandboxOptions {
    let cache = CacheOptions { directory: cache_dir(), max_size: 1 << 30 };
    // A compiler has a low priority: on a busy machine the large components take longer than is usual.
    let compile = CompileOptions { time: None, ..CompileOptions::default() };
    SandboxOptions { cache: Some(cache), compile, ..SandboxOptions::default() }
}

/// A guest in the shared sandbox.
pub fn handler(name: &str) -> Handler {
    sandbox().load(guest(name)).unwrap()
}

/// A server that a thread serves until this is dropped.
pub struct Running {
    server: Arc<Server>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
    pub address: ServeAddress,
    /// Where a Unix socket's file is.
    _directory: TempDir,
}

impl Running {
    /// Serves a case of the matrix on a free address.
    pub fn start(case: Case, slot: impl Into<Slot>) -> Self {
        Self::start_with(case, slot, ServerOptions::default())
    }

    pub fn start_with(case: Case, slot: impl Into<Slot>, options: ServerOptions) -> Self {
        let directory = TempDir::new().unwrap();
        let address = match case.server_type {
            ServerType::Tcp | ServerType::Udp => "127.0.0.1:0".to_owned(),
            _ => directory.path().join("socket").display().to_string(),
        };
        let options = ServerOptions { concurrency: case.concurrency(), ..options };
        Self::bind(&format!("{}://{address}", case.server_type.scheme()), slot, options, directory)
    }

    /// Serves an address of the test's choice.
    pub fn at(address: &str, slot: impl Into<Slot>, options: ServerOptions) -> Self {
        Self::bind(address, slot, options, TempDir::new().unwrap())
    }

    fn bind(address: &str, slot: impl Into<Slot>, options: ServerOptions, directory: TempDir) -> Self {
        note_panics();
        let server = Arc::new(Server::bind(&address.parse().unwrap(), slot, options).unwrap());
        let serving = server.clone();
        let thread = Some(thread::spawn(move || serving.serve_forever()));
        Self { address: server.address(), server, thread, _directory: directory }
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    pub fn ask(&self, data: &[u8]) -> Vec<u8> {
        Client::ask(&self.address, data)
    }

    /// Shuts down, and returns how `serve_forever` ended.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.server.shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Deref for Running {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.request_shutdown();
        // A `sync` server may be in a request that never ends: it has to be cut before the thread can end.
        let timeout = if thread::panicking() { Duration::ZERO } else { PATIENCE };
        self.server.server_close_within(timeout);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let panics = mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(thread::panicking() || panics.is_empty(), "a server of this process panicked: {panics:?}");
    }
}

/// What servers of this process panicked of by themselves: where a test wants it so, it is the test's own code that panics.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|at| at.file().starts_with("host/src/")) {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
            }
            before(panic);
        }));
    });
}

/// Lets the strategy `forking` start this executable as its fork server: before `main`, since the test
/// harness's `main` has threads.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        tracing::subscriber::set_global_default(PanickingLog).expect("nobody else sets one");
        plugsock::become_helper_process_if_asked();
    }
    before_main
};
