//! Says hello, and to who posts something the same.

use std::io::{self, Write};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::OutputStream;

struct Handler;

wasip2::http::proxy::export!(Handler);

impl Guest for Handler {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("nobody has taken it");
        ResponseOutparam::set(answer, Ok(response));
        let mut output = body.write().expect("nobody has taken it");
        let written = write(&request, &mut output);
        drop(output);
        // Whoever has gone has no use for the end.
        if written.is_ok() {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

fn write(request: &IncomingRequest, output: &mut OutputStream) -> io::Result<()> {
    match request.method() {
        Method::Post => {
            let body = request.consume().expect("nobody has taken it");
            let mut input = body.stream().expect("nobody has taken it");
            io::copy(&mut input, output).map(drop)
        }
        _ => output.write_all(b"hello\n"),
    }
}
