//! Answers HTTP with what it is asked for, by the interfaces of WASI 0.2.0. That is the version of what it exports; what it
//! imports gets that of the standard library from the linker, and tests write another into the component.

// Native linkers take no names like `wasi:http/incoming-handler`.
#![cfg(target_family = "wasm")]

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Handler;

impl Guest for Handler {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("it is asked for once");
        ResponseOutparam::set(answer, Ok(response));
        let out = body.write().expect("it is asked for once");
        let path = request.path_with_query().unwrap_or_default();
        let _ = out.blocking_write_and_flush(format!("0.2.0 {path}\n").as_bytes());
        drop(out);
        let _ = OutgoingBody::finish(body, None);
    }
}

bindings::export!(Handler with_types_in bindings);

/// As much of `wasi:http` as it takes. All of `wasi:io`, since the C library names it in the same version.
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package guests:http;

            world proxy {
                export wasi:http/incoming-handler@0.2.0;
            }

            package wasi:io@0.2.0 {
                interface error {
                    resource error {
                        to-debug-string: func() -> string;
                    }
                }
                interface poll {
                    resource pollable {
                        ready: func() -> bool;
                        block: func();
                    }
                    poll: func(in: list<borrow<pollable>>) -> list<u32>;
                }
                interface streams {
                    use error.{error};
                    use poll.{pollable};
                    variant stream-error {
                        last-operation-failed(error),
                        closed,
                    }
                    resource input-stream {
                        read: func(len: u64) -> result<list<u8>, stream-error>;
                        blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
                        skip: func(len: u64) -> result<u64, stream-error>;
                        blocking-skip: func(len: u64) -> result<u64, stream-error>;
                        subscribe: func() -> pollable;
                    }
                    resource output-stream {
                        check-write: func() -> result<u64, stream-error>;
                        write: func(contents: list<u8>) -> result<_, stream-error>;
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                        flush: func() -> result<_, stream-error>;
                        blocking-flush: func() -> result<_, stream-error>;
                        subscribe: func() -> pollable;
                        write-zeroes: func(len: u64) -> result<_, stream-error>;
                        blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
                        splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
                        blocking-splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
                    }
                }
            }

            package wasi:http@0.2.0 {
                interface types {
                    use wasi:io/streams@0.2.0.{output-stream};
                    record DNS-error-payload {
                        rcode: option<string>,
                        info-code: option<u16>,
                    }
                    record TLS-alert-received-payload {
                        alert-id: option<u8>,
                        alert-message: option<string>,
                    }
                    record field-size-payload {
                        field-name: option<string>,
                        field-size: option<u32>,
                    }
                    variant error-code {
                        DNS-timeout,
                        DNS-error(DNS-error-payload),
                        destination-not-found,
                        destination-unavailable,
                        destination-IP-prohibited,
                        destination-IP-unroutable,
                        connection-refused,
                        connection-terminated,
                        connection-timeout,
                        connection-read-timeout,
                        connection-write-timeout,
                        connection-limit-reached,
                        TLS-protocol-error,
                        TLS-certificate-error,
                        TLS-alert-received(TLS-alert-received-payload),
                        HTTP-request-denied,
                        HTTP-request-length-required,
                        HTTP-request-body-size(option<u64>),
                        HTTP-request-method-invalid,
                        HTTP-request-URI-invalid,
                        HTTP-request-URI-too-long,
                        HTTP-request-header-section-size(option<u32>),
                        HTTP-request-header-size(option<field-size-payload>),
                        HTTP-request-trailer-section-size(option<u32>),
                        HTTP-request-trailer-size(field-size-payload),
                        HTTP-response-incomplete,
                        HTTP-response-header-section-size(option<u32>),
                        HTTP-response-header-size(field-size-payload),
                        HTTP-response-body-size(option<u64>),
                        HTTP-response-trailer-section-size(option<u32>),
                        HTTP-response-trailer-size(field-size-payload),
                        HTTP-response-transfer-coding(option<string>),
                        HTTP-response-content-coding(option<string>),
                        HTTP-response-timeout,
                        HTTP-upgrade-failed,
                        HTTP-protocol-error,
                        loop-detected,
                        configuration-error,
                        internal-error(option<string>),
                    }
                    resource fields {
                        constructor();
                    }
                    resource incoming-request {
                        path-with-query: func() -> option<string>;
                    }
                    resource response-outparam {
                        set: static func(param: response-outparam, response: result<outgoing-response, error-code>);
                    }
                    resource outgoing-response {
                        constructor(headers: fields);
                        body: func() -> result<outgoing-body>;
                    }
                    resource outgoing-body {
                        write: func() -> result<output-stream>;
                        finish: static func(this: outgoing-body, trailers: option<fields>) -> result<_, error-code>;
                    }
                }
                interface incoming-handler {
                    use types.{incoming-request, response-outparam};
                    handle: func(request: incoming-request, response-out: response-outparam);
                }
            }
        ",
        generate_all,
    });
}
