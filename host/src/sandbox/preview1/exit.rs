//! The exit status of a program for preview 1, whole. The adapter that is used for all the rest tells WASI 0.2
//! success from failure and no more; so this one takes `proc_exit` over, with the call that WASI 0.2.12 added.

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::PREVIEW1;

/// The module that a program imports `proc_exit` from instead: as long a name, so that it fits into its place.
pub(super) const MODULE: &str = "plugsock_exit_preview1";

/// What is taken over.
pub(super) const PROC_EXIT: (&str, &str) = (PREVIEW1, "proc_exit");

/// What the adapter imports.
const WIT: &str = "package plugsock:exit;
world adapter { import wasi:cli/exit@0.2.12; }
package wasi:cli@0.2.12 { interface exit { exit-with-code: func(status-code: u8); } }";

/// The adapter itself:
///
/// ```wat
/// (module
///   (import "wasi:cli/exit@0.2.12" "exit-with-code" (func $exit (param i32)))
///   (func (export "proc_exit") (param i32)
///     (call $exit (i32.and (local.get 0) (i32.const 255)))
///     unreachable))
/// ```
const ADAPTER: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x05\x01\x60\x01\x7f\0\
    \x02\x27\x01\x14wasi:cli/exit@0.2.12\x0eexit-with-code\0\0\
    \x03\x02\x01\0\
    \x07\x0d\x01\x09proc_exit\0\x01\
    \x0a\x0d\x01\x0b\0\x20\0\x41\xff\x01\x71\x10\0\0\x0b";

/// The adapter with the type of its imports.
pub(super) fn adapter() -> Result<Vec<u8>, String> {
    let mut adapter = ADAPTER.to_vec();
    let mut resolve = Resolve::default();
    let embedded = resolve.push_source("exit.wit", WIT).and_then(|package| {
        let world = resolve.select_world(&[package], None)?;
        embed_component_metadata(&mut adapter, &resolve, world, StringEncoding::UTF8)
    });
    embedded.map(|()| adapter).map_err(|error| format!("{error:#}"))
}

/// The program with `proc_exit` imported from [`MODULE`]; `imports` are slices of it.
pub(super) fn redirect(program: &[u8], imports: &[(&str, &str)]) -> Vec<u8> {
    let mut redirected = program.to_vec();
    for (module, _) in imports.iter().filter(|import| **import == PROC_EXIT) {
        let at = module.as_ptr().addr() - program.as_ptr().addr();
        redirected[at..at + MODULE.len()].copy_from_slice(MODULE.as_bytes());
    }
    redirected
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_fits_into_its_place() {
        assert_eq!(super::MODULE.len(), super::PREVIEW1.len());
    }
}
