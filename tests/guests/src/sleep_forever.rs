//! Sleeps in `handle` for 136 years.

use std::thread;
use std::time::Duration;

use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, _: &Request) -> Result {
        thread::sleep(Duration::from_secs(u32::MAX.into()));
        Ok(())
    }
}

export!(Guest: RequestHandler);
