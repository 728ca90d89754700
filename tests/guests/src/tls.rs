//! Protects its connection and echoes what comes over it, then says in its log how that ended. Its environment says how:
//!
//! - `WHEN`: `setup`, or `command` for after a line `STARTTLS`; else the listener has done it
//! - `IDENTITY`, `ALPN`: what to protect it with
//! - `TELL`: answers how it is protected, a line each, before it echoes
//! - `SEND`: sends as many bytes instead, without a look at what comes
//! - `HTTP`: answers one request of HTTP instead
//! - `STREAMS`: by `rfile` and `wfile`, with a poll before each read

use std::{env, io};

use plugsock_sdk::bindings::plugsock::handler::types::TlsError;
use plugsock_sdk::wasi::io::streams::StreamError;
use plugsock_sdk::{Request, RequestHandler, Result, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn setup(&mut self, request: &Request) -> Result {
        if is("WHEN", "setup") { protect(request) } else { Ok(()) }
    }

    fn handle(&mut self, request: &Request) -> Result {
        if is("WHEN", "command") {
            read_to(request, b"STARTTLS\n")?;
            request.send(b"go\n")?;
            protect(request)?;
        }
        if env::var_os("TELL").is_some() {
            request.send(told(request).as_bytes())?;
        }
        if let Ok(count) = env::var("SEND") {
            let bytes = vec![b'x'; count.parse()?];
            // One call of the host takes no more than a few MiB.
            for piece in bytes.chunks(1 << 20) {
                request.send(piece)?;
            }
            return Ok(());
        }
        if env::var_os("HTTP").is_some() {
            read_to(request, b"\r\n\r\n")?;
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
            return Ok(request.send(answer)?);
        }
        let ended = if env::var_os("STREAMS").is_some() { echo_streams(request) } else { echo(request) };
        let why = request.tls_error().map_or(String::new(), |error| format!(", {error:?}"));
        match ended {
            Ok(()) => eprintln!("saw the end{why}"),
            Err(error) => eprintln!("saw {error}{why}"),
        }
        Ok(())
    }
}

export!(Guest: RequestHandler);

fn is(name: &str, value: &str) -> bool {
    env::var(name).is_ok_and(|found| found == value)
}

fn protect(request: &Request) -> Result {
    let identity = env::var("IDENTITY").ok();
    let alpn: Vec<String> =
        env::var("ALPN").iter().flat_map(|alpn| alpn.split(',')).map(str::to_owned).collect();
    match request.start_tls(identity.as_deref(), &alpn) {
        Ok(_) => match request.start_tls(None, &[]) {
            Err(TlsError::AlreadyProtected) => Ok(()),
            other => Err(io::Error::other(format!("protected twice: {other:?}")).into()),
        },
        // It is as it was.
        Err(TlsError::NoIdentity(why)) => {
            eprintln!("no identity: {why}");
            request
                .start_tls(None, &alpn)
                .map(drop)
                .map_err(|error| io::Error::other(format!("{error:?}")).into())
        }
        Err(error) => {
            eprintln!("not protected: {error:?}");
            eprintln!("then: {:?}, {:?}", request.recv(1), request.send(b"in the clear"));
            Err(io::Error::other("it cannot be protected").into())
        }
    }
}

/// A byte at a time, since what follows is not of the same kind.
fn read_to(request: &Request, end: &[u8]) -> Result {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        match request.recv(1)? {
            byte if byte.is_empty() => return Err(io::Error::other("it ended too early").into()),
            byte => read.extend(byte),
        }
    }
    Ok(())
}

fn told(request: &Request) -> String {
    let Some(tls) = request.tls() else { return "none\n.\n".to_owned() };
    let lines = [
        format!("protocol={}", tls.protocol),
        format!("cipher={}", tls.cipher_suite),
        format!("server-name={}", tls.server_name.unwrap_or_default()),
        format!("alpn={}", tls.alpn.unwrap_or_default()),
        format!("resumed={}", tls.resumed),
        format!("certificates={}", tls.client_certificates.len()),
        format!("names={}", tls.client_names.join(";")),
        ".\n".to_owned(),
    ];
    lines.join("\n")
}

fn echo(request: &Request) -> Result<(), String> {
    loop {
        let data = request.recv(64 * 1024).map_err(|error| format!("{error:?}"))?;
        if data.is_empty() {
            return Ok(());
        }
        request.send(&data).map_err(|error| format!("{error:?} when it sent"))?;
    }
}

fn echo_streams(request: &Request) -> Result<(), String> {
    let words = |error: plugsock_sdk::Error| format!("{error:?}");
    let (rfile, wfile) = (request.rfile().map_err(words)?, request.wfile().map_err(words)?);
    loop {
        rfile.subscribe().block();
        match rfile.read(64 * 1024) {
            Ok(data) => data
                .chunks(4096)
                .try_for_each(|piece| wfile.blocking_write_and_flush(piece))
                .map_err(|error| format!("{error:?} when it sent"))?,
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}
