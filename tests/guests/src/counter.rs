//! Counts in a static, and answers the count: 1 if the instance is fresh.

use std::sync::atomic::{AtomicU32, Ordering};

use plugsock_sdk::{Request, RequestHandler, Result, export};

static COUNT: AtomicU32 = AtomicU32::new(0);

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(request.send(format!("{count}\n").as_bytes())?)
    }
}

export!(Guest: RequestHandler);
