//! Options for handlers that speak HTTP.

use bytesize::ByteSize;
use clap::Args;
use http::HeaderName;
use plugsock::{AccessLog, Forwarded, HttpOptions};

use super::options::{Time, parse_size, parse_time};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP (for handlers that export wasi:http/incoming-handler)")]
pub struct HttpArgs {
    /// Requests that one connection may bring
    #[arg(long, value_name = "COUNT", default_value_t = HttpOptions::default().requests, value_parser = clap::value_parser!(u64).range(1..))]
    http_requests: u64,

    /// How long a connection may wait for its next request; `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    http_keep_alive: Time,

    /// How old a connection may grow; what it has begun then, it ends. `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    http_connection_time: Time,

    /// How long the head of a request may take from its first byte; `none` for no limit
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    http_head_time: Time,

    /// How large the head of a request may be, of 8KiB to 16MiB
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_head_size)]
    http_head_size: ByteSize,

    /// How large the body of a request may be (any size)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    http_body_size: Option<ByteSize>,

    /// Requests that one connection of HTTP/2 may have open at once
    #[arg(long, value_name = "COUNT", default_value_t = HttpOptions::default().streams, value_parser = clap::value_parser!(u32).range(1..))]
    http_streams: u32,

    /// What becomes of Forwarded and X-Forwarded-*: `set` has the handler get them of the client that is known here, and
    /// none that came from outside; `strip` only takes those off; `pass` leaves them to a proxy in front
    #[arg(long, value_name = "set|strip|pass", default_value_t = HttpOptions::default().forwarded)]
    forwarded: Forwarded,

    /// A header that tells the handler who its client on a Unix socket is, as in pid=1,uid=0,gid=0; it is never taken from
    /// outside
    #[arg(long, value_name = "NAME", value_parser = parse_header)]
    credentials_header: Option<String>,

    /// Log each request at `info`, in the combined format or as JSON
    #[arg(long, value_name = "combined|json")]
    access_log: Option<AccessLog>,
}

impl HttpArgs {
    pub fn options(&self) -> HttpOptions {
        HttpOptions {
            requests: self.http_requests,
            keep_alive: self.http_keep_alive.0,
            connection_time: self.http_connection_time.0,
            head_time: self.http_head_time.0,
            head_size: self.http_head_size.as_u64() as usize,
            body_size: self.http_body_size.map(|size| size.as_u64()),
            streams: self.http_streams,
            forwarded: self.forwarded,
            credentials_header: self.credentials_header.clone(),
            access_log: self.access_log,
        }
    }
}

fn parse_head_size(text: &str) -> Result<ByteSize, String> {
    let size = parse_size(text)?;
    if (8 << 10..=16 << 20).contains(&size.as_u64()) {
        Ok(size)
    } else {
        Err("it must be 8KiB to 16MiB".to_owned())
    }
}

fn parse_header(text: &str) -> Result<String, String> {
    text.parse::<HeaderName>()
        .map(|name| name.to_string())
        .map_err(|_| "it is no name of a header".to_owned())
}
