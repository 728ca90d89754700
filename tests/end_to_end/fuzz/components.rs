//! Components: real ones with changes, and generated ones of valid code that nobody would write.

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arbitrary::Unstructured;
use plugsock::{Cause, CompileOptions, Handler, HandlerError, Limits, Sandbox, SandboxOptions};
use wasm_smith::{Component, Config, Module};

use super::for_each_seed;
use super::random::Random;
use crate::harness::wasm::{CORE_MODULE, section, sections};
use crate::harness::{guest, plugin, written};

/// A sandbox that keeps nothing of what it compiles.
fn sandbox() -> Sandbox {
    let limits = Limits { cpu_time: Some(Duration::from_millis(200)), ..Limits::default() };
    let compile = CompileOptions { memory: 1 << 30, ..CompileOptions::default() };
    Sandbox::new(SandboxOptions { cache: None, limits, compile, ..SandboxOptions::default() }).unwrap()
}

/// Loaded, or refused for what it is, in words; the compiler does not end in any other way.
fn load(sandbox: &Sandbox, bytes: &[u8]) -> Result<Handler, String> {
    match sandbox.load_bytes("component", bytes) {
        Ok(handler) => Ok(handler),
        Err(HandlerError::Unfit { reason, .. }) => {
            let broken = ["panicked", "signal", "status", "takes longer"];
            assert!(!broken.iter().any(|word| reason.contains(word)), "{reason}");
            assert!(reason.len() < 20_000, "{} bytes of words", reason.len());
            Err(reason)
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
        let _ = load(&sandbox, &random.mutated(&bytes));
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
        let _ = load(&sandbox, &bytes);
    });
}

/// Valid code of every kind is served, and whatever it does when it runs ends its own request.
#[test]
fn generated_components() {
    let sandbox = sandbox();
    let template = std::fs::read(written("generated")).unwrap();
    let [before, shape, after] = at_first_module(&template);
    let (well, trapped) = (Cell::new(0), Cell::new(0));
    let count = for_each_seed(40, |random| {
        let config = Config { module_shape: Some(shape.to_vec()), ..config(random) };
        let bytes = random.bytes(2000);
        let generated = Module::new(config, &mut Unstructured::new(&bytes)).unwrap();
        let bytes = [before, &section(CORE_MODULE, &generated.to_bytes()), after].concat();
        let handler = match load(&sandbox, &bytes) {
            Ok(handler) => handler,
            // What a module begins with may be where it has no memory.
            Err(reason) => {
                let has_reason = ["gc types are disallowed", "out of bounds", "exceeds the"]
                    .iter()
                    .any(|word| reason.contains(word));
                return assert!(has_reason, "{reason}");
            }
        };
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        match handler.call(server.into()).map_err(|error| error.cause) {
            Ok(()) => well.set(well.get() + 1),
            Err(Cause::Trap { .. }) => trapped.set(trapped.get() + 1),
            Err(Cause::Limit(_)) => {}
            Err(other) => panic!("{other}"),
        }
    });
    // Else it would try very little.
    assert!(well.get() > count / 10 && trapped.get() > count / 10, "{well:?} and {trapped:?} of {count}");
}

/// Whatever there is in the format of components; the generator does not keep every rule of it.
#[test]
fn arbitrary_components() {
    let sandbox = sandbox();
    let valid = Cell::new(0);
    let count = for_each_seed(60, |random| {
        let (config, bytes) = (config(random), random.bytes(5000));
        let component = Component::new(config, &mut Unstructured::new(&bytes)).unwrap();
        let reason = load(&sandbox, &component.to_bytes()).expect_err("it exports nothing");
        valid.set(valid.get() + usize::from(!reason.contains("not a valid component")));
    });
    assert!(valid.get() > count / 4, "{valid:?} of {count}");
}

/// What the engine has of WebAssembly, little of each kind, and now and then code that cannot trap. The types of
/// references that it lacks come with those that it has.
fn config(random: &mut Random) -> Config {
    Config {
        allow_start_export: false,
        disallow_traps: random.below(2) == 0,
        exceptions_enabled: false,
        gc_enabled: false,
        max_memories: 3,
        max_memory32_bytes: 1 << 24,
        max_memory64_bytes: 1 << 24,
        max_table_elements: 1000,
        max_tables: 3,
        reference_types_enabled: random.below(4) == 0,
        threads_enabled: false,
        ..Config::default()
    }
}

/// The component before its first core module, that module, and the rest.
fn at_first_module(component: &[u8]) -> [&[u8]; 3] {
    let mut sections = sections(component).into_iter();
    let (_, whole, content) = sections.find(|(id, ..)| *id == CORE_MODULE).expect("it has a module");
    [&component[..whole.start], &component[content], &component[whole.end..]]
}
