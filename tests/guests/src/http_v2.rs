//! Answers HTTP as the request's path says, and calls itself version 2.

// Native linkers take no names like `wasi:http/incoming-handler`.
#![cfg(target_family = "wasm")]

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

#[path = "http/paths.rs"]
mod paths;

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        paths::handle("2", &request, answer);
    }
}

wasip2::http::proxy::export!(Handler);
