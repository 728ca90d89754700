//! Options that several subcommands share: limits, grants, trust, compiling, the cache.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use plugsock::{
    CacheOptions, CompileOptions, CoreDumpOptions, Digest, DirGrant, Grants, Limits, MinRate, NetGrant,
    PublicKey, Rate, Sandbox, SandboxError, SandboxOptions, StateGrant, StateLimits, TlsCa, Trust,
};

use super::helper_process::HelperProcess;
use super::keys::parse_public_key;
use super::log::LogOptions;

/// All that a sandbox is made of, for commands that have one handler.
#[derive(Args, Debug)]
pub struct SandboxArgs {
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What may be another for each handler.
#[derive(Args, Clone, Debug)]
pub struct GuestArgs {
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    state: StateLimitArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What all handlers of a process share.
#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    #[command(flatten)]
    shared: SharedLimitArgs,
    #[command(flatten)]
    compile: CompileArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    core_dumps: CoreDumpArgs,
}

/// Limits that the engine has for all handlers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits of one request")]
struct SharedLimitArgs {
    /// Requests of all handlers that may be open at once; more wait in the listen queue
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().max_requests, value_parser = parse_count)]
    max_requests: usize,

    /// Stack, of 64KiB to 1GiB: how deep its code may call. Interpreters need more for deep input
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = parse_stack)]
    stack: ByteSize,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits of one request")]
struct LimitArgs {
    /// Linear memory: all its memories, and what is collected for it; 4GiB at most
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_memory)]
    memory: ByteSize,

    /// Memories that its component may have; with more than two, and with more than six tables, instances cost more, since
    /// they are not taken from pools
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().memories, value_parser = parse_count)]
    memories: usize,

    /// Elements of all its tables
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().table_elements)]
    table_elements: usize,

    /// Core instances that its component may consist of
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().instances)]
    instances: usize,

    /// Streams, files and other resources that it may hold at once
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().resources)]
    resources: usize,

    /// Wall-clock time from start to close; `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    request_time: Time,

    /// CPU time; `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    cpu_time: Time,

    /// How long it may wait for its client; `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_time)]
    idle_timeout: Time,

    /// How fast its client must be while it waits for it, on average beyond a grace, as in 500/s or 1KiB/s:30s
    #[arg(long, value_name = "BYTES/s[:GRACE]")]
    min_rate: Option<MinRate>,

    /// Lines a second that it may print to the log, and ten seconds' worth at once; the rest is dropped
    #[arg(long, value_name = "LINES", default_value_t = Limits::default().log_rate)]
    log_rate: u32,

    /// Let one instance serve so many requests, one after the other. Gives isolation up: a request may then
    /// read and change what those before it left in the instance's memory
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = parse_count)]
    reuse: usize,

    /// Have so many instances ready ahead of requests, for handlers that are slow to instantiate; each still serves
    /// one request. With forking it is one, of which every process has its own copy
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    warm: usize,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Grants (handlers get nothing else)")]
struct GrantArgs {
    /// An environment variable for handlers; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,

    /// A directory for handlers, under another name; read-only unless it ends in `:rw`; may be repeated
    #[arg(long, value_name = "HOST::GUEST[:rw]", value_parser = parse_dir)]
    dir: Vec<DirGrant>,

    /// Where handlers may connect and send to, by TCP and UDP. HOST is an address, a network (10.0.0.0/8,
    /// [fd00::/8]) or a name, which leads to public addresses alone; PORT may be `*`; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    allow_net: Vec<NetGrant>,

    /// Certificates (PEM) of those whom handlers believe, besides Mozilla's list, when they speak TLS to a server; may
    /// be repeated
    #[arg(long, value_name = "FILE", requires = "allow_net", value_parser = parse_tls_ca)]
    tls_ca: Vec<TlsCaFile>,

    /// A store for handlers, by a name, for state that outlives requests: memory; file:PATH, which several processes may have
    /// open at once (file:PATH?durable=false may lose its last writes with the power); redis://HOST/DATABASE;
    /// nats://HOST/BUCKET; with TLS rediss://… and tls://…, by the system's list of those who vouch for servers or by ?ca=FILE. Read-only
    /// with NAME:ro; may be repeated
    #[arg(long, value_name = "NAME[:ro]=URL")]
    state: Vec<StateGrant>,

    /// Let datagram handlers send to any address, not to their client alone
    #[arg(long)]
    allow_send_to: bool,

    /// Let handlers read this process's standard input, each byte for the one that asks first; not with forking
    #[arg(long)]
    allow_stdin: bool,

    /// Arguments for handlers, after their own name
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "State limits (of a handler, all its requests together)")]
struct StateLimitArgs {
    /// How large a key may be
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    state_key_size: ByteSize,

    /// How large a value may be
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_size)]
    state_value_size: ByteSize,

    /// How many keys a store may have, for the handler to add another
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().state.keys)]
    state_keys: u64,

    /// How large all keys and values of a store may be together, for the handler to add to them
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    state_size: ByteSize,

    /// How often it may ask, and how often at once
    #[arg(long, value_name = "RATE[:BURST]", default_value = "10000/s")]
    state_rate: Rate,

    /// How long one operation may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    state_time: Duration,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Trust in handlers")]
struct TrustArgs {
    /// Load only the component with this SHA-256, as `plugsock check` shows it
    #[arg(long, value_name = "sha256:DIGEST")]
    digest: Option<Digest>,

    /// Load only components with a signature by this key (minisign), in FILE.minisig beside them; may be
    /// repeated for several keys of which any will do
    #[arg(long, value_name = "FILE|KEY", value_parser = parse_public_key)]
    public_key: Vec<PublicKey>,

    /// The largest component that is loaded
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    max_component_size: ByteSize,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Compiling (in a process of its own, at a low priority)")]
struct CompileArgs {
    /// How long it may take; `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    compile_time: Time,

    /// How much memory it may take
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_size)]
    compile_memory: ByteSize,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cache of compiled handlers")]
struct CacheArgs {
    /// Keep compiled handlers here instead of in the user's cache directory
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// How large the cache may grow
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_size)]
    cache_size: ByteSize,

    /// Compile at every start
    #[arg(long, conflicts_with = "cache_dir")]
    no_cache: bool,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Looking into a handler")]
struct CoreDumpArgs {
    /// Have each trap leave a WebAssembly core dump here, in a file named by handler, digest, time, request and phase. It
    /// holds all that the handler knew: memory, global variables, stack
    #[arg(long, value_name = "DIR")]
    coredump: Option<PathBuf>,

    /// How many core dumps the directory may hold; while it holds so many, no other is kept
    #[arg(long, value_name = "COUNT", default_value = "10", requires = "coredump", value_parser = parse_count)]
    coredump_count: usize,

    /// How large a core dump may be; none is kept of a handler whose memory holds more
    #[arg(long, value_name = "SIZE", default_value = "64MiB", requires = "coredump", value_parser = parse_size)]
    coredump_size: ByteSize,
}

impl SandboxArgs {
    /// Starts the sandbox that these options describe; `handler` is the handler's own name.
    pub fn sandbox(self, handler: &str, log: &LogOptions) -> Result<Sandbox, SandboxError> {
        let sandbox = self.engine.sandbox(self.guest.limits(), log)?;
        self.guest.sandbox(&sandbox, handler)
    }

    /// The same options where no more than so many requests are ever open.
    pub fn for_requests(self, most: usize) -> Self {
        Self { engine: self.engine.for_requests(most), ..self }
    }
}

impl GuestArgs {
    /// Refuses grants that could not be kept.
    pub fn check_stdin(&self, is_forking: bool) -> anyhow::Result<()> {
        anyhow::ensure!(
            !(self.grants.allow_stdin && is_forking),
            "forked processes have no standard input: use --allow-stdin with another --concurrency"
        );
        Ok(())
    }

    /// Whether not just any component may be loaded.
    pub fn is_choosy(&self) -> bool {
        self.trust.digest.is_some() || !self.trust.public_key.is_empty()
    }

    /// Whether instances are kept for further requests.
    pub fn keeps_instances(&self) -> bool {
        self.limits.reuse > 1
    }

    /// What its requests may use, but for what all handlers share.
    pub fn limits(&self) -> Limits {
        let LimitArgs { memories, table_elements, instances, resources, log_rate, reuse, warm, .. } =
            self.limits;
        Limits {
            memory: self.limits.memory.as_u64().try_into().unwrap_or(usize::MAX),
            memories,
            table_elements,
            instances,
            resources,
            request_time: self.limits.request_time.0,
            cpu_time: self.limits.cpu_time.0,
            idle_time: self.limits.idle_timeout.0,
            min_rate: self.limits.min_rate,
            log_rate,
            reuse,
            warm,
            state: self.state.limits(),
            ..Limits::default()
        }
    }

    /// For a handler of this name, on an engine that has room for it.
    pub fn sandbox(&self, engine: &Sandbox, handler: &str) -> Result<Sandbox, SandboxError> {
        engine.with(self.limits(), self.grants(handler), self.trust.clone().trust())
    }

    fn grants(&self, handler: &str) -> Grants {
        let GrantArgs { env, dir, allow_net, tls_ca, state, allow_send_to, allow_stdin, arguments } =
            self.grants.clone();
        Grants {
            env,
            dirs: dir,
            args: std::iter::once(handler.to_owned()).chain(arguments).collect(),
            send_to: allow_send_to,
            stdin: allow_stdin,
            net: allow_net,
            tls_ca: tls_ca.into_iter().flat_map(|file| file.0).collect(),
            state,
        }
    }
}

impl StateLimitArgs {
    fn limits(&self) -> StateLimits {
        let bytes = |size: ByteSize| size.as_u64().try_into().unwrap_or(usize::MAX);
        StateLimits {
            key_size: bytes(self.state_key_size),
            value_size: bytes(self.state_value_size),
            keys: self.state_keys,
            size: self.state_size.as_u64(),
            rate: Some(self.state_rate),
            time: self.state_time,
        }
    }
}

impl EngineArgs {
    pub fn max_requests(&self) -> usize {
        self.shared.max_requests
    }

    /// The same options for a user with this home, unless another place for the cache was asked for.
    pub fn with_cache_below(mut self, home: &Path) -> Self {
        self.cache.cache_dir.get_or_insert_with(|| home.join(".cache/plugsock"));
        self
    }

    /// Where compiled handlers are kept, if they are.
    pub fn cache_directory(&self) -> Option<PathBuf> {
        self.cache.clone().options().map(|options| options.directory)
    }

    /// The same options where no more than so many requests are ever open: the engine's pools need be no larger, and take
    /// time to make.
    pub fn for_requests(mut self, most: usize) -> Self {
        self.shared.max_requests = self.shared.max_requests.min(most);
        self
    }

    /// Starts the engine, with room for handlers with these limits.
    pub fn sandbox(self, limits: Limits, log: &LogOptions) -> Result<Sandbox, SandboxError> {
        let SharedLimitArgs { max_requests, stack } = self.shared;
        let stack = stack.as_u64().try_into().unwrap_or(usize::MAX);
        Sandbox::new(SandboxOptions {
            limits: Limits { max_requests, stack, ..limits },
            compile: self.compile.options(log),
            cache: self.cache.options(),
            core_dumps: self.core_dumps.options(),
            ..SandboxOptions::default()
        })
    }
}

impl TrustArgs {
    fn trust(self) -> Trust {
        Trust {
            digest: self.digest,
            public_keys: self.public_key,
            max_size: self.max_component_size.as_u64(),
        }
    }
}

impl CompileArgs {
    fn options(self, log: &LogOptions) -> CompileOptions {
        CompileOptions {
            time: self.compile_time.0,
            memory: self.compile_memory.as_u64(),
            arguments: HelperProcess::arguments(log),
        }
    }
}

impl CacheArgs {
    fn options(self) -> Option<CacheOptions> {
        if self.no_cache {
            return None;
        }
        let mut options = match self.cache_dir {
            Some(directory) => CacheOptions { directory, max_size: 0 },
            None => CacheOptions::for_user()?,
        };
        options.max_size = self.cache_size.as_u64();
        Some(options)
    }
}

impl CoreDumpArgs {
    fn options(self) -> Option<CoreDumpOptions> {
        let (count, size) = (self.coredump_count, self.coredump_size.as_u64());
        self.coredump.map(|directory| CoreDumpOptions { directory, count, size })
    }
}

/// A time that may be switched off. (An `Option` would mean an option that need not be given.)
#[derive(Clone, Copy, Debug)]
pub struct Time(pub Option<Duration>);

pub fn parse_time(text: &str) -> Result<Time, String> {
    if text == "none" {
        return Ok(Time(None));
    }
    parse_duration(text).map(|time| Time(Some(time))).map_err(|error| format!("{error}, or `none`"))
}

pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, as in 500ms, 30s or 5m"))
}

/// A number of bytes.
pub fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| format!("'{text}' is no size: write a number and a unit, as in 512KiB or 64MiB"))
}

/// A number of things that must be at least one.
pub fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

/// What each strategy can carry, with as many requests as there may be.
const STACKS: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// What one memory of 32 bits may have, and the engine reserves for each.
const MEMORY_MAX: u64 = 4 << 30;

fn parse_memory(text: &str) -> Result<ByteSize, String> {
    let size = parse_size(text)?;
    if size.as_u64() <= MEMORY_MAX { Ok(size) } else { Err("it must be at most 4GiB".to_owned()) }
}

fn parse_stack(text: &str) -> Result<ByteSize, String> {
    let size = parse_size(text)?;
    if STACKS.contains(&size.as_u64()) { Ok(size) } else { Err("it must be 64KiB to 1GiB".to_owned()) }
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// The certificates of one file.
#[derive(Clone, Debug)]
struct TlsCaFile(Vec<TlsCa>);

fn parse_tls_ca(path: &str) -> Result<TlsCaFile, String> {
    let text = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    TlsCa::from_pem(&text).map(TlsCaFile).map_err(|error| error.to_string())
}

fn parse_dir(text: &str) -> Result<DirGrant, String> {
    let (path, read_only) = match text.strip_suffix(":rw") {
        Some(path) => (path, false),
        None => (text.strip_suffix(":ro").unwrap_or(text), true),
    };
    match path.split_once("::") {
        Some((host, guest)) if !host.is_empty() && !guest.is_empty() => {
            Ok(DirGrant { host: host.into(), guest: guest.to_owned(), read_only })
        }
        _ => Err("write HOST::GUEST or HOST::GUEST:rw, as in ./zones::/zone".to_owned()),
    }
}
