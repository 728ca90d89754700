//! Calls itself until the stack ends.

use std::hint::black_box;

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let sum = descend(1);
        Ok(request.send(format!("{sum}\n").as_bytes())?)
    }
}

/// Each level needs the one below it, so that no compiler makes a loop of it.
fn descend(depth: u64) -> u64 {
    let local = black_box([depth; 16]);
    if depth == u64::MAX { 0 } else { descend(depth + 1).wrapping_add(black_box(local)[3]) }
}

export!(Guest: RequestHandler);
