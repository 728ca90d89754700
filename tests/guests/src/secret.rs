//! `put` fills memory with a pattern; `get` answers how often it stands anywhere in memory.

use std::hint::black_box;
use std::io::{BufRead, Read, Write};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut kept = Vec::new();
        for line in request.rfile.by_ref().lines() {
            match line?.as_str() {
                "put" => {
                    kept.push(vec![SECRET; 512 * 1024]);
                    writeln!(request.wfile, "put")?;
                }
                "get" => writeln!(request.wfile, "{}", memory().filter(|word| *word == SECRET).count())?,
                other => writeln!(request.wfile, "what is {other}?")?,
            }
        }
        black_box(kept);
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);

/// An immediate in the code, so that it is in memory only where `put` put it.
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;

/// Every word of the instance's memory.
#[cfg(target_arch = "wasm32")]
fn memory() -> impl Iterator<Item = u64> {
    let size = core::arch::wasm32::memory_size(0) * 64 * 1024;
    (8..size).step_by(8).map(|address| {
        // SAFETY: the address is aligned and within linear memory; a volatile read assumes nothing else.
        unsafe { core::ptr::read_volatile(address as *const u64) }
    })
}

#[cfg(not(target_arch = "wasm32"))]
fn memory() -> impl Iterator<Item = u64> {
    std::iter::empty()
}
