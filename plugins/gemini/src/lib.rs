//! Serves the granted directory `/site` to Gemini clients: one request for a URL, its answer, and the end, all by TLS.
//! What is below `/private/` is for those whom `/private/.users` names.

use std::io::{BufRead, Read};
use std::time::Duration;

use plugsock_sdk::{Request, Result, StreamRequest, StreamRequestHandler, TlsError, export};

mod mime;
mod path;
mod response;
mod site;
mod url;
mod users;

use path::Path;
use response::Response;
use url::Url;

/// A URL and its line's end.
const LONGEST_REQUEST: u64 = 1024 + 2;

#[derive(Default)]
struct Gemini;

impl StreamRequestHandler for Gemini {
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));

    fn setup(&mut self, request: &mut StreamRequest) -> Result {
        match request.start_tls(None, &[]) {
            // Its server has protected it already.
            Ok(_) | Err(TlsError::AlreadyProtected) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = Vec::new();
        request.rfile.by_ref().take(LONGEST_REQUEST).read_until(b'\n', &mut line)?;
        let response = answer(&line, request).unwrap_or_else(|refusal| refusal);
        response.send(&mut request.wfile)?;
        Ok(())
    }
}

export!(Gemini: StreamRequestHandler);

/// An error is an answer, too.
fn answer(line: &[u8], request: &Request) -> Result<Response, Response> {
    let url = Url::parse(line)?;
    // All hosts are this one, unless the arguments name some.
    let mut hosts = std::env::args().skip(1).peekable();
    if hosts.peek().is_some() && !hosts.any(|host| host.eq_ignore_ascii_case(url.host)) {
        return Err(Response::refused("this server has no such host"));
    }
    let path = Path::parse(url.path)?;
    if path.is_private() {
        users::admit(request.tls())?;
    }
    site::find(&path, &url)
}
