//! From bytes to compiled code: what they are, and in words why they cannot be served.

#![allow(unsafe_code, reason = "compiled code is loaded")]

use std::fmt;
use std::path::Path;
use std::time::Instant;

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentExtern, ComponentItem};

use super::code::Code;
use super::trust::Candidate;
use super::{Anatomy, Digest, ECHO, Fetched, Handler, Sandbox, compiler, preview1};
use crate::error::{HandlerError, excerpt};

/// The interface that every handler exports.
pub(super) const CONTRACT: &str = "plugsock:handler/request-handler@0.1.1";

/// How a handler is served, which its file decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// A component with the contract's `setup`, `handle` and `finish`.
    Contract,
    /// A component that answers requests of HTTP, with `wasi:http/incoming-handler`.
    Http,
    /// A component that is an ordinary program, with `wasi:cli/run`.
    Command,
    /// An ordinary program for WASI preview 1: a core module with `_start`.
    Preview1Command,
}

impl fmt::Display for HandlerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contract => "contract handler",
            Self::Http => "HTTP handler",
            Self::Command => "command",
            Self::Preview1Command => "preview 1 command",
        })
    }
}

/// What a file is and whether this host can serve it.
#[derive(Debug)]
pub struct Inspection {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: usize,
    /// What the core modules in it are made of; `None` if it does not compile.
    pub anatomy: Option<Anatomy>,
    /// How it would be served; `None` if it cannot be.
    pub kind: Option<HandlerKind>,
    /// The interfaces and functions that it asks for.
    pub imports: Vec<Import>,
    /// The interfaces and functions that it offers.
    pub exports: Vec<String>,
    /// Whether it protects connections by TLS itself.
    pub starts_tls: bool,
    /// Why it cannot be served, if so.
    pub verdict: Result<(), HandlerError>,
}

/// What a component asks for.
#[derive(Clone, Debug)]
pub struct Import {
    /// The interface or function.
    pub name: String,
    /// Why it would fail or find nothing under the sandbox's grants, if so.
    pub denied: Option<&'static str>,
}

impl Sandbox {
    /// Says what a file is, and whether this host can serve it.
    pub fn inspect(&self, path: impl AsRef<Path>) -> Result<Inspection, HandlerError> {
        let candidate = self.read(path.as_ref())?;
        Ok(self.inspect_candidate(path.as_ref().display().to_string(), &candidate))
    }

    /// Says the same of the built-in `echo`.
    pub fn inspect_echo(&self) -> Inspection {
        self.inspect_candidate("echo".to_owned(), &Candidate::built_in(ECHO))
    }

    /// Says the same of a component that was fetched from a registry.
    pub fn inspect_fetched(&self, fetched: &Fetched) -> Inspection {
        self.inspect_candidate(fetched.reference.clone(), &Candidate::fetched(fetched))
    }

    fn inspect_candidate(&self, name: String, candidate: &Candidate<'_>) -> Inspection {
        let (bytes, digest) = (&candidate.bytes, candidate.digest);
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        let mut verdict = self.check(&name, candidate, self.0.trust.digest);
        let (mut kind, mut starts) = (None, false);
        let mut anatomy = None;
        if verdict.is_ok() {
            let served = compile(self, bytes, digest).and_then(|code| {
                anatomy = Anatomy::of(bytes);
                (imports, exports) = (code.imports(), code.exports());
                starts = matches!(&code, Code::Component(component) if starts_tls(component));
                Handler::link(self, &name, digest.to_string(), &code)
            });
            kind = served.as_ref().ok().map(Handler::kind);
            verdict = served.map(drop).map_err(|reason| HandlerError::Unfit { name, reason });
        }
        let is_command = matches!(kind, Some(HandlerKind::Command | HandlerKind::Preview1Command));
        let denied = |name: &str| self.grants().denial(name, is_command);
        let imports = imports.into_iter().map(|name| Import { denied: denied(&name), name }).collect();
        Inspection { digest, size: bytes.len(), anatomy, kind, imports, exports, starts_tls: starts, verdict }
    }
}

/// Compiles a component or a core module, or takes it from the cache; says in words what else the bytes are.
pub(super) fn compile(sandbox: &Sandbox, bytes: &[u8], digest: Digest) -> Result<Code, String> {
    // A wasm file's version field; in its upper half a component says that it is no core module.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if bytes.starts_with(b"\x7fELF") {
        return Err("it is native code, perhaps a precompiled component, which is never loaded; give the \
                    WebAssembly component itself"
            .to_owned());
    }
    if !bytes.starts_with(b"\0asm") {
        return Err("it is not WebAssembly; build a component for wasm32-wasip2".to_owned());
    }
    if !bytes.starts_with(COMPONENT) && !preview1::is_core_module(bytes) {
        return Err("it is truncated, or a WebAssembly format that this host does not know".to_owned());
    }
    let engine = &sandbox.host().platform.engine;
    let cache = sandbox.host().cache.as_ref();
    if let Some(code) = cache.and_then(|cache| cache.load(engine, digest)) {
        // SAFETY: it carries the digest that the cache computes over its name and what it was given below, in a
        // file that only this user could write.
        match unsafe { load(sandbox, &code) } {
            Ok(code) => {
                sandbox.host().compiles.found_in_cache();
                return Ok(code);
            }
            // Or it is more than this sandbox allows; then it is so anew.
            Err(error) => tracing::debug!("the cache's entry for {digest} is of no use: {error}"),
        }
    }
    let begun = Instant::now();
    let compiled = compiler::compile(sandbox, bytes);
    sandbox.host().compiles.compiled(&compiled, begun.elapsed());
    let compiled = compiled?;
    // SAFETY: this executable has just compiled it, here or in a process that it started for this alone.
    let code = unsafe { load(sandbox, &compiled) }?;
    if let Some(cache) = cache {
        cache.store(engine, &compiled, digest);
    }
    Ok(code)
}

/// # Safety
///
/// As of [`Code::load`].
unsafe fn load(sandbox: &Sandbox, code: &[u8]) -> Result<Code, String> {
    // SAFETY: as the caller promises.
    let error = match unsafe { Code::load(&sandbox.host().platform.engine, code) } {
        Ok(code) => return code.check_size(sandbox.limits()).map(|()| code),
        Err(error) => error,
    };
    // SAFETY: as the caller promises.
    if let Ok(code) = unsafe { Code::load(&sandbox.roomy()?.engine, code) } {
        code.check_size(sandbox.limits())?;
        if !code.fits_pools() {
            return Ok(code);
        }
    }
    Err(format!("{error:#}{}", load_hint(&error)))
}

/// Whether it may become a client of TLS.
pub(super) fn speaks_tls(component: &Component) -> bool {
    let component_type = component.component_type();
    component_type.imports(component.engine()).any(|(name, _)| name.starts_with("wasi:tls/"))
}

/// A component of another contract version deserves a better word than a missing export.
pub(super) fn check_version(component: &Component) -> Result<(), String> {
    let (interface, version) = CONTRACT.split_once('@').expect("the contract has a version");
    let package = interface.split_once('/').expect("it is an interface of a package").0;
    let component_type = component.component_type();
    let engine = component.engine();
    for name in names(component_type.exports(engine)).iter().chain(&names(component_type.imports(engine))) {
        let Some((other, built_for)) = name.split_once('@') else { continue };
        if other.split('/').next() == Some(package) && !is_compatible(built_for, version) {
            return Err(format!(
                "it was built for version {built_for} of the contract {package}, and this host has \
                 {version}; build it with the plugsock-sdk of this host"
            ));
        }
    }
    Ok(())
}

/// Whether two versions differ in nothing but additions.
fn is_compatible(one: &str, other: &str) -> bool {
    // Before 1.0 the minor version is the one that counts.
    fn counts(version: &str) -> Option<(&str, &str)> {
        version.split_once('.').and_then(|(major, rest)| Some((major, rest.split_once('.')?.0)))
    }
    counts(one) == counts(other)
}

/// Whether it asks for the contract's `start-tls`.
pub(super) fn starts_tls(component: &Component) -> bool {
    let (engine, component_type) = (component.engine(), component.component_type());
    component_type.imports(engine).any(|(name, item)| match item.ty {
        ComponentItem::ComponentInstance(instance) if name.starts_with("plugsock:handler/types@") => {
            instance.exports(engine).any(|(function, _)| function == "[method]request.start-tls")
        }
        _ => false,
    })
}

pub(super) fn names<'a>(items: impl Iterator<Item = (&'a str, ComponentExtern<'a>)>) -> Vec<String> {
    items
        // Types alone are no interface.
        .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_) | ComponentItem::Resource(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// What to do about code that cannot be loaded.
fn load_hint(error: &wasmtime::Error) -> &'static str {
    // wasmtime has no type for it, and nothing else tells how many instances there are.
    if format!("{error:#}").contains("core module instances") { "; raise --instances" } else { "" }
}

/// The packages of WASI 0.2 that there are.
const WASI: [&str; 9] = ["cli", "clocks", "filesystem", "http", "io", "keyvalue", "random", "sockets", "tls"];

const WASI_HINT: &str = "; of WASI there are cli, clocks, filesystem, http, io, random and sockets, as in WASI 0.2, \
     keyvalue 0.2.0-draft and 0.2.0-draft2, and tls 0.2.0-draft";

/// Whose interfaces are known and not offered, by how their names begin.
const OTHERS: [(&str, &str); 3] =
    [("fermyon:spin/", " (of Spin)"), ("spin:", " (of Spin)"), ("wasmcloud:", " (of wasmCloud)")];

/// Why a component cannot be linked, and what to do about it: by what it imports, or else in wasmtime's words.
pub(super) fn explain_unlinked(component: &Component, error: &wasmtime::Error) -> String {
    let imports = names(component.component_type().imports(component.engine()));
    let missing: Vec<_> = imports.iter().filter_map(|name| Some((name, whose(name)?))).collect();
    let imports_of = |package: &str| imports.iter().any(|name| name.starts_with(package));
    let hint = if missing.iter().any(|(_, whose)| *whose == NEXT_WASI) {
        "; WASI 0.3 is not offered yet: build for WASI 0.2"
    } else if missing.iter().any(|(name, _)| name.starts_with("wasi:")) {
        WASI_HINT
    } else if !missing.is_empty() || !imports_of("wasi:") {
        // It is something else that is missing.
        ""
    } else if imports_of("wasi:sockets/") {
        "; there are no sockets beyond those of WASI 0.2, and none is needed for the handler's own connection"
    } else {
        WASI_HINT
    };
    if missing.is_empty() {
        return format!("{error:#}{hint}");
    }
    let missing: Vec<_> = missing.into_iter().map(|(name, whose)| format!("{name}{whose}")).collect();
    format!("{}{hint}", excerpt(&missing.join(", ")))
}

const NEXT_WASI: &str = " (of WASI 0.3)";

/// Whose an interface is, where its name tells that this host does not have it.
fn whose(name: &str) -> Option<&'static str> {
    let Some(name) = name.strip_prefix("wasi:") else {
        let known = OTHERS.iter().find(|(beginning, _)| name.starts_with(beginning));
        return (!name.starts_with("plugsock:")).then_some(known.map_or("", |(_, whose)| whose));
    };
    let (package, interface) = name.split_once('/').unwrap_or((name, ""));
    match WASI.contains(&package) {
        _ if interface.contains("@0.3") => Some(NEXT_WASI),
        true if interface.contains("@0.2") => None,
        true => Some(" (of another WASI)"),
        false => Some(" (a proposal to WASI)"),
    }
}
