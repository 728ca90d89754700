//! Says hello, and to who posts something the same.

use wstd::http::{Body, Method, Request, Response, Result};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>> {
    let body = match *request.method() {
        Method::POST => request.into_body(),
        _ => "hello\n".into(),
    };
    Ok(Response::new(body))
}
