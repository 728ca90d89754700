//! From a core module, as most compilers write one, to a component.

use wasi_preview1_component_adapter_provider as adapter;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract;

/// Makes a core module a component.
///
/// Where the module does not say what world it is for, its exports tell: the contract's with or without
/// hooks, that of HTTP, or none of them and a `_start`, which is a command's. A module that uses WASI preview 1 gets the
/// adapter that translates it.
pub fn componentize(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    let exports = exports(core)?;
    let has = |wanted: &str| exports.iter().any(|name| name.starts_with(wanted));
    let is_http = has("wasi:http/incoming-handler@");
    let is_command = has("_start") && !has("plugsock:handler/") && !is_http;
    let mut module = core.to_vec();
    let (unmarked, _) = wit_component::metadata::decode(core)?;
    if unmarked.is_none() && !is_command {
        // Of a world's imports the component has those that the module uses.
        let (resolve, world) = if is_http {
            contract::resolve_http()?
        } else if has("plugsock:handler/server-hooks@") {
            contract::resolve("handler-with-hooks-with-state")?
        } else {
            contract::resolve("handler-with-state")?
        };
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    let adapter = match is_command {
        true => adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
        .encode()
}

/// The names that a core module exports; says in words what else the bytes are.
fn exports(core: &[u8]) -> anyhow::Result<Vec<String>> {
    use wasmparser::{Encoding, Parser, Payload};
    anyhow::ensure!(core.starts_with(b"\0asm"), "it is not WebAssembly");
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(core) {
        match payload? {
            Payload::Version { encoding: Encoding::Component, .. } => {
                anyhow::bail!("it is a component already");
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(exports)
}
