//! Sends the seconds since 1900 as four bytes: the time protocol (RFC 868), on streams and datagrams.

use std::time::{SystemTime, UNIX_EPOCH};

use plugsock_sdk::{Request, RequestHandler, Result, export};

/// The seconds from 1900 to 1970.
const UNIX_EPOCH_SINCE_1900: u64 = 2_208_988_800;

#[derive(Default)]
struct Time;

impl RequestHandler for Time {
    fn handle(&mut self, request: &Request) -> Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        // In 2036 the four bytes start over, as NTP's do.
        let seconds = (now.as_secs() + UNIX_EPOCH_SINCE_1900) as u32;
        Ok(request.send(&seconds.to_be_bytes())?)
    }
}

export!(Time: RequestHandler);
