//! In words: which proposal to WebAssembly a module uses that this host does not have.

use wasmparser::{BinaryReaderError, Validator, WasmFeatures};

/// A proposal that is not offered.
struct Proposal {
    feature: WasmFeatures,
    name: &'static str,
    /// How to do without.
    advice: &'static str,
}

const NOT_OFFERED: [Proposal; 11] = [
    Proposal {
        feature: WasmFeatures::THREADS,
        name: "threads (shared memory and atomic instructions)",
        advice: "a request has one thread; build without -pthread, and for wasm32-wasip1 instead of -threads",
    },
    Proposal {
        feature: WasmFeatures::SHARED_EVERYTHING_THREADS.union(WasmFeatures::THREADS),
        name: "shared-everything threads",
        advice: "a request has one thread; build without threads",
    },
    Proposal {
        feature: WasmFeatures::LEGACY_EXCEPTIONS,
        name: "legacy exception handling",
        advice: "build with -mllvm -wasm-use-legacy-eh=false (Emscripten: -sWASM_LEGACY_EXCEPTIONS=0), or convert \
                 with wasm-opt --translate-to-exnref",
    },
    Proposal {
        feature: WasmFeatures::STACK_SWITCHING,
        name: "stack switching",
        advice: "build without continuations (with Asyncify, if the compiler has it)",
    },
    Proposal {
        feature: WasmFeatures::CUSTOM_PAGE_SIZES,
        name: "custom page sizes",
        advice: "link without --page-size",
    },
    Proposal {
        feature: WasmFeatures::MEMORY_CONTROL,
        name: "memory control",
        advice: "build without memory.discard",
    },
    Proposal {
        feature: WasmFeatures::CUSTOM_DESCRIPTORS,
        name: "custom descriptors",
        advice: "build without them (wasm-opt: --disable-custom-descriptors)",
    },
    Proposal {
        feature: WasmFeatures::COMPACT_IMPORTS,
        name: "the compact import section",
        advice: "link without it",
    },
    Proposal {
        feature: WasmFeatures::CM64,
        name: "a 64-bit memory at a component's boundary",
        advice: "build what speaks to the host for wasm32",
    },
    Proposal {
        feature: WasmFeatures::CM_GC,
        name: "collected types at a component's boundary",
        advice: "build with the component model's linear memory interface",
    },
    Proposal {
        feature: WasmFeatures::CM_ASYNC
            .union(WasmFeatures::CM_ASYNC_STACKFUL)
            .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
            .union(WasmFeatures::CM_THREADING)
            .union(WasmFeatures::CM_ERROR_CONTEXT),
        name: "asynchronous functions of components (WASI 0.3)",
        advice: "build for WASI 0.2",
    },
];

/// What this host has: WebAssembly 3.0 without threads, and wide arithmetic.
fn offered() -> WasmFeatures {
    (WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL | WasmFeatures::WIDE_ARITHMETIC)
        - WasmFeatures::THREADS
}

/// Which proposal makes a module or component invalid here, where, and how to do without; `None` if it is none.
pub(super) fn missing(bytes: &[u8]) -> Option<String> {
    let error = first_error(bytes, offered())?;
    // With the proposal it is valid there, if perhaps not to the end.
    let helps = |proposal: &&Proposal| {
        first_error(bytes, offered() | proposal.feature).is_none_or(|later| later.offset() > error.offset())
    };
    let Proposal { name, advice, .. } = NOT_OFFERED.iter().find(helps)?;
    Some(format!("it uses {name} at offset {:#x}, which this host does not have: {advice}", error.offset()))
}

fn first_error(bytes: &[u8], features: WasmFeatures) -> Option<BinaryReaderError> {
    Validator::new_with_features(features).validate_all(bytes).err()
}
