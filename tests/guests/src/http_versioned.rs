//! Answers HTTP with a name and the target of the request, in a line. Tests write another name into the component to make
//! another version of it.

// Native linkers take no names like `wasi:http/incoming-handler`.
#![cfg(target_family = "wasm")]

use std::hint::black_box;
use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// Where the name is, found by its first bytes.
static NAME: [u8; 16] = *b"version-name:AAA";

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        // What the compiler knew of it would not change with the component.
        let name = &black_box(&NAME)[13..];
        let target = request.path_with_query().unwrap_or_default();
        let text = [name, b" ", target.as_bytes(), b"\n"].concat();
        let headers = [("content-length".to_owned(), text.len().to_string().into_bytes())];
        let response = OutgoingResponse::new(Fields::from_list(&headers).unwrap());
        let body = response.body().unwrap();
        ResponseOutparam::set(outparam, Ok(response));
        let mut stream = body.write().unwrap();
        stream.write_all(&text).unwrap();
        drop(stream);
        OutgoingBody::finish(body, None).unwrap();
    }
}

wasip2::http::proxy::export!(Handler);
