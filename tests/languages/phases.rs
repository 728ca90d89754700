//! Fails in the phase that the first line names, or starts TLS and answers with the same bytes.

use std::io::{self, BufRead, Write};

use plugsock_sdk::{HandlerError, Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Phases {
    line: String,
}

impl Phases {
    fn fail_in(&self, phase: &str) -> Result {
        if self.line == phase { Err(HandlerError::new("as asked")) } else { Ok(()) }
    }
}

impl StreamRequestHandler for Phases {
    fn setup(&mut self, request: &mut StreamRequest) -> Result {
        request.rfile.read_line(&mut self.line)?;
        self.fail_in("setup\n")
    }

    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut words = self.line.split_whitespace();
        if words.next() == Some("STARTTLS") {
            return start_tls(request, words.next());
        }
        request.wfile.write_all(b"handle\n")?;
        self.fail_in("handle\n")
    }

    fn finish(&mut self, request: &mut StreamRequest) -> Result {
        request.wfile.write_all(b"finish\n")?;
        self.fail_in("finish\n")
    }
}

fn start_tls(request: &mut StreamRequest, identity: Option<&str>) -> Result {
    request.wfile.write_all(b"go ahead\n")?;
    let tls = request.start_tls(identity, &["echo"])?;
    let server_name = tls.server_name.as_deref().unwrap_or("-");
    let alpn = tls.alpn.as_deref().unwrap_or("-");
    writeln!(request.wfile, "tls {} {} {server_name} {alpn}", tls.protocol, tls.cipher_suite)?;
    if let Some(name) = tls.client_names.last() {
        let length: usize = tls.client_certificates.iter().map(Vec::len).sum();
        writeln!(request.wfile, "client {} {length} {name}", tls.client_certificates.len())?;
    }
    io::copy(&mut request.rfile, &mut request.wfile)?;
    Ok(())
}

export!(Phases: StreamRequestHandler);
