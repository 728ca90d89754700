//! Components: real ones with changes, and generated ones of valid code that nobody would write.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use plugsock::{Cause, CompileOptions, HandlerError, Limits, Sandbox, SandboxOptions};

use super::{for_each_seed, wasm};
use crate::harness::wasm::section;
use crate::harness::{guest, plugin, written};

/// A sandbox that keeps nothing of what it compiles.
fn sandbox() -> Sandbox {
    let limits = Limits { cpu_time: Some(Duration::from_millis(200)), ..Limits::default() };
    let compile = CompileOptions { memory: 1 << 30, ..CompileOptions::default() };
    Sandbox::new(SandboxOptions { cache: None, limits, compile, ..SandboxOptions::default() }).unwrap()
}

/// Loaded, or refused for what it is; the compiler does not end in any other way.
fn is_loaded_or_refused(sandbox: &Sandbox, bytes: &[u8]) {
    match sandbox.load_bytes("component", bytes) {
        Ok(_) => {}
        Err(HandlerError::Unfit { reason, .. }) => {
            let broken = ["panicked", "signal", "status", "takes longer"];
            assert!(!broken.iter().any(|word| reason.contains(word)), "{reason}");
            assert!(reason.len() < 20_000, "{} bytes of words", reason.len());
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn mutated_components() {
    let sandbox = sandbox();
    let originals = [plugin("echo"), guest("hooks"), written("table"), written("wrong_types")];
    let originals = originals.map(|path| std::fs::read(path).unwrap());
    for_each_seed(60, |random| {
        let bytes = random.pick(&originals).clone();
        is_loaded_or_refused(&sandbox, &random.mutated(&bytes));
    });
}

#[test]
fn bytes_that_are_no_component() {
    const BEGINNINGS: [&[u8]; 5] = [
        b"",
        b"\0asm\x0d\0\x01\0",
        b"\0asm\x01\0\0\0",
        b"\x7fELF",
        b"\0asm\x0d\0\x01\0\x01\x08\0asm\x01\0\0\0",
    ];
    let sandbox = sandbox();
    for_each_seed(60, |random| {
        let length = random.below(200);
        let bytes = [*random.pick(&BEGINNINGS), &random.bytes(length)].concat();
        is_loaded_or_refused(&sandbox, &bytes);
    });
}

/// Valid code of every kind is compiled, and whatever it does when it runs ends its own request.
#[test]
fn generated_components() {
    let sandbox = sandbox();
    let template = std::fs::read(written("generated")).unwrap();
    for_each_seed(30, |random| {
        let bytes = with_module(&template, &wasm::module(random));
        let handler = sandbox.load_bytes("generated", &bytes).unwrap();
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        if let Err(error) = handler.call(server.into()) {
            assert!(!matches!(error.cause, Cause::Host(_)), "{error}");
        }
    });
}

/// The component with another core module in the place of its first.
fn with_module(component: &[u8], module: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 8;
    const CORE_MODULE: u8 = 1;
    let mut at = HEADER_LEN;
    loop {
        let start = at;
        let id = component[at];
        at += 1;
        let mut length = 0;
        for shift in (0..).step_by(7) {
            length |= usize::from(component[at] & 0x7f) << shift;
            at += 1;
            if component[at - 1] & 0x80 == 0 {
                break;
            }
        }
        at += length;
        if id == CORE_MODULE {
            let module = section(CORE_MODULE, module);
            return [&component[..start], &module, &component[at..]].concat();
        }
    }
}
