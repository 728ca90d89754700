//! Backtraces have lines of source code where a component has debug information, whatever that is like.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::wasm::{section, sized};
use crate::harness::{Host, cache_dir, for_each_strategy, plugsock, run, written};

/// A program that traps in line 3, which is inlined into line 8.
const TRAPS: &str = "\
#[inline(always)]
fn innermost() -> ! {
    core::arch::wasm32::unreachable()
}

#[inline(never)]
fn middle() {
    innermost()
}

fn main() {
    middle();
}
";

/// The program with its debug information, as the compiler leaves it.
fn with_debug_information(directory: &Path) -> String {
    fs::write(directory.join("traps.rs"), TRAPS).unwrap();
    let program = directory.join("traps.wasm");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--target=wasm32-wasip2", "-Cdebuginfo=2", "-Cstrip=none", "-o"]);
    rustc.arg(&program).arg(directory.join("traps.rs")).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(rustc.status().unwrap().success());
    program.to_str().unwrap().to_owned()
}

#[test]
fn the_log_and_call_show_them() {
    let directory = TempDir::new().unwrap();
    let program = with_debug_information(directory.path());
    let ended = run(plugsock().args(["call", &program, "--cache-dir"]).arg(cache_dir()));
    for line in ["traps.rs:3:5 in traps::innermost\n", "traps.rs:8:5 in traps::middle\n", "traps.rs:12:5\n"] {
        assert!(ended.stderr.contains(line), "{line:?} is not in {ended:?}");
    }
    for_each_strategy(|strategy| {
        let args = ["tcp://127.0.0.1:0", &program, "--concurrency", strategy, "--log-level", "debug"];
        let mut host = Host::serve(&args);
        // Found the first time, known the second.
        for count in 1..=2 {
            host.ask(b"");
            host.log.wait_for_count("traps.rs:3:5", count);
            host.log.wait_for_count("traps.rs:12:5", count);
        }
        assert!(host.terminate().success());
    });
}

/// A program that traps, with these custom sections.
fn with_sections(directory: &Path, name: &str, sections: &[(&str, Vec<u8>)]) -> String {
    let mut module = fs::read(written("preview1_trap")).unwrap();
    for (name, content) in sections {
        module.extend(section(0, &[sized(name.as_bytes()), content.clone()].concat()));
    }
    let path = directory.join(name).with_extension("wasm");
    fs::write(&path, module).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A compilation unit in sixteen bytes, so often, and each names the same million bytes of ranges: they are tens of
/// gigabytes for who notes them all.
fn ranges_without_end() -> [(&'static str, Vec<u8>); 3] {
    // One kind of entry: a unit (0x11) without children, whose ranges (0x55) are at an offset (0x17).
    let abbreviations = vec![1, 0x11, 0, 0x55, 0x17, 0, 0, 0];
    let unit = [&12_u32.to_le_bytes()[..], &4_u16.to_le_bytes(), &[0; 4], &[4], &[1], &[0; 4]].concat();
    let ranges = (0..1 << 17).flat_map(|start: u32| [start + 1, start + 2]).chain([0, 0]);
    let ranges = ranges.flat_map(u32::to_le_bytes).collect();
    [(".debug_abbrev", abbreviations), (".debug_info", unit.repeat(1 << 16)), (".debug_ranges", ranges)]
}

#[test]
fn hostile_debug_information_costs_its_backtrace_the_lines_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let noise = |seed: u32| -> Vec<u8> {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(Some(seed), next).map(|state| (state >> 24) as u8).take(100_000).collect()
    };
    let names = [".debug_abbrev", ".debug_info", ".debug_line", ".debug_ranges", ".debug_str"];
    let noise: Vec<_> = names.into_iter().zip(1..).map(|(name, seed)| (name, noise(seed))).collect();
    let endless = with_sections(directory.path(), "endless", &ranges_without_end());
    for program in [with_sections(directory.path(), "noise", &noise), endless.clone()] {
        let mut host = Host::serve(&["tcp://127.0.0.1:0", &program, "--log-level", "debug"]);
        for count in 1..=2 {
            host.ask(b"");
            host.log.wait_for_count("wasm backtrace", count);
        }
        if program == endless {
            host.log.wait_for("source lines of endless.wasm are not looked for any more");
        }
        assert!(host.peak_memory() < 256 << 20, "{} bytes", host.peak_memory());
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("handler trapped").len(), 2);
    }
}
