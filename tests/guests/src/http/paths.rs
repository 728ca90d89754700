//! What the HTTP guests do, by the path that they are asked for.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::io::{Read, Write};
use std::thread::sleep;
use std::time::Duration;

use wasip2::cli::environment::get_arguments;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const PIECE: usize = 64 << 10;

pub fn handle(version: &str, request: &IncomingRequest, answer: ResponseOutparam) {
    // Whoever asked may have gone, and has no more use for an answer.
    if let Err(error) = obey(version, request, Answer(answer)) {
        eprintln!("{error}");
    }
}

fn obey(version: &str, request: &IncomingRequest, answer: Answer) -> Result {
    let target = request.path_with_query().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let mut words = path.split('/').skip(1);
    let (name, argument) = (words.next().unwrap_or_default(), words.next());
    let number = || argument.and_then(|number| number.parse::<u64>().ok()).ok_or("there is no number");
    match name {
        "" => answer.text("hello\n"),
        "page" => answer.whole(&[("content-type", "text/html; charset=utf-8")], include_str!("page.html")),
        "version" => answer.text(version),
        "echo" => {
            let body = request_body(request)?;
            let mut out = answer.begin(200, &[])?;
            copy(&body, &mut out)?;
            out.finish(None)
        }
        // The host moves the body; the guest never has it.
        "splice" => {
            let body = request_body(request)?;
            let input = body.stream().map_err(|()| "the body has no stream")?;
            let out = answer.begin(200, &[])?;
            loop {
                match out.stream.blocking_splice(&input, PIECE as u64) {
                    Ok(_) => {}
                    Err(StreamError::Closed) => return out.finish(None),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        "collect" => {
            let mut all = Vec::new();
            let body = request_body(request)?;
            let mut input = body.stream().map_err(|()| "the body has no stream")?;
            input.read_to_end(&mut all)?;
            answer.text(&format!("{} {:016x}\n", all.len(), checksum(&all)))
        }
        // Says so when it begins to read.
        "read" => {
            let body = request_body(request)?;
            let mut input = body.stream().map_err(|()| "the body has no stream")?;
            eprintln!("reading");
            input.read_to_end(&mut Vec::new())?;
            answer.text("read\n")
        }
        "head" => answer.text(&head(request)),
        "status" => answer.begin(u16::try_from(number()?)?, &[])?.finish(None),
        "size" => {
            let mut out = answer.begin(200, &[])?;
            out.pattern(number()?)?;
            out.finish(None)
        }
        "length" => {
            let length = number()?;
            let mut out = answer.begin(200, &[("content-length", &length.to_string())])?;
            out.pattern(length)?;
            out.finish(None)
        }
        // Says that one byte more will come.
        "short" => {
            let length = number()?;
            let mut out = answer.begin(200, &[("content-length", &(length + 1).to_string())])?;
            out.pattern(length)?;
            out.finish(None)
        }
        "trap" => panic!("as asked"),
        "trap-after-head" => {
            let _out = answer.begin(200, &[])?;
            panic!("as asked")
        }
        "trap-in-body" => {
            let mut out = answer.begin(200, &[])?;
            out.say("a part of it\n")?;
            panic!("as asked")
        }
        "trap-after-body" => {
            answer.text("all of it\n")?;
            panic!("as asked")
        }
        "loop" => loop {
            black_box(());
        },
        "loop-after-head" => {
            let mut out = answer.begin(200, &[])?;
            out.say("a part of it\n")?;
            loop {
                black_box(());
            }
        }
        "bomb" => {
            let mut taken = Vec::new();
            loop {
                taken.push(black_box(vec![1u8; 1 << 20]));
            }
        }
        "stack" => answer.text(&descend(1).to_string()),
        "sleep" => {
            sleep(Duration::from_millis(number()?));
            answer.text("slept\n")
        }
        "ticks" => {
            let mut out = answer.begin(200, &[])?;
            for tick in 0..number()? {
                sleep(Duration::from_millis(50));
                out.say(&format!("tick {tick}\n"))?;
            }
            out.finish(None)
        }
        // Into the host's log.
        "say" => {
            let mut text = String::new();
            let body = request_body(request)?;
            body.stream().map_err(|()| "the body has no stream")?.read_to_string(&mut text)?;
            eprintln!("said: {text}");
            answer.text("heard\n")
        }
        // Until whoever listens has enough.
        "events" => {
            let mut out = answer.begin(200, &[("content-type", "text/event-stream")])?;
            for number in 0.. {
                out.say(&format!("data: {number}\n\n"))?;
                sleep(Duration::from_millis(10));
            }
            out.finish(None)
        }
        "no-answer" => Ok(()),
        "error-code" => {
            ResponseOutparam::set(answer.0, Err(ErrorCode::InternalError(Some("as asked".to_owned()))));
            Ok(())
        }
        "trailers" => {
            let body = request_body(request)?;
            let mut input = body.stream().map_err(|()| "the body has no stream")?;
            let mut all = Vec::new();
            input.read_to_end(&mut all)?;
            drop(input);
            let mut out = answer.begin(200, &[("trailer", "x-length")])?;
            out.say(&trailers(body)?)?;
            out.finish(Some(&[("x-length", &all.len().to_string())]))
        }
        "headers" => {
            let names: Vec<_> = (0..number()?).map(|number| format!("x-header-{number}")).collect();
            let headers: Vec<_> = names.iter().map(|name| (&**name, "value")).collect();
            answer.begin(200, &headers)?.finish(None)
        }
        "fetch" => match fetch(request) {
            Ok((status, body)) => {
                let mut out = answer.begin(200, &[])?;
                out.say(&format!("{status}\n"))?;
                copy(&body, &mut out)?;
                out.finish(None)
            }
            Err(error) => answer.text(&format!("error: {error}\n")),
        },
        "print" => {
            println!("on standard output");
            eprintln!("on standard error");
            answer.text("printed\n")
        }
        "env" => {
            let arguments = get_arguments().into_iter().map(|argument| format!("arg={argument}\n"));
            let variables = env::vars().map(|(name, value)| format!("env={name}={value}\n"));
            answer.text(&arguments.chain(variables).collect::<String>())
        }
        _ => answer.begin(404, &[])?.finish(None),
    }
}

/// What was not answered yet.
struct Answer(ResponseOutparam);

impl Answer {
    fn text(self, text: &str) -> Result {
        self.whole(&[], text)
    }

    fn whole(self, headers: &[(&str, &str)], text: &str) -> Result {
        let length = text.len().to_string();
        let mut out = self.begin(200, &[headers, &[("content-length", &*length)]].concat())?;
        out.say(text)?;
        out.finish(None)
    }

    fn begin(self, status: u16, headers: &[(&str, &str)]) -> Result<Out> {
        let response = OutgoingResponse::new(fields(headers)?);
        response.set_status_code(status).map_err(|()| "that is no status")?;
        let body = response.body().map_err(|()| "the answer has no body")?;
        ResponseOutparam::set(self.0, Ok(response));
        Ok(Out { stream: body.write().map_err(|()| "the body has no stream")?, body })
    }
}

/// A body on its way out. The fields go in this order, as WASI would have it.
struct Out {
    stream: wasip2::io::streams::OutputStream,
    body: OutgoingBody,
}

impl Out {
    /// Sends this at once.
    fn say(&mut self, text: &str) -> Result {
        self.stream.write_all(text.as_bytes())?;
        Ok(self.stream.blocking_flush()?)
    }

    /// Sends the bytes 0 … 255 over and over, `length` in all.
    fn pattern(&mut self, length: u64) -> Result {
        let piece: Vec<u8> = (0..PIECE).map(|index| index as u8).collect();
        let mut left = length;
        while left > 0 {
            let now = left.min(PIECE as u64);
            self.stream.write_all(&piece[..now as usize])?;
            left -= now;
        }
        Ok(())
    }

    fn finish(self, trailers: Option<&[(&str, &str)]>) -> Result {
        self.stream.blocking_flush()?;
        drop(self.stream);
        let trailers = trailers.map(fields).transpose()?;
        Ok(OutgoingBody::finish(self.body, trailers)?)
    }
}

fn fields(of: &[(&str, &str)]) -> Result<Fields> {
    let list: Vec<_> = of.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    Ok(Fields::from_list(&list)?)
}

fn lines(of: &Fields) -> String {
    let line = |(name, value): (String, Vec<u8>)| format!("{name}: {}\n", String::from_utf8_lossy(&value));
    of.entries().into_iter().map(line).collect()
}

fn head(request: &IncomingRequest) -> String {
    let method = format!("{:?}", request.method());
    let path = request.path_with_query();
    let scheme = request.scheme().map(|scheme| format!("{scheme:?}"));
    let authority = request.authority();
    let headers = lines(&request.headers());
    format!("{method}\npath {path:?}\nscheme {scheme:?}\nauthority {authority:?}\n{headers}")
}

fn request_body(request: &IncomingRequest) -> Result<IncomingBody> {
    Ok(request.consume().map_err(|()| "the body was taken")?)
}

/// Copies piece by piece, each at once.
fn copy(body: &IncomingBody, out: &mut Out) -> Result {
    let input = body.stream().map_err(|()| "the body has no stream")?;
    loop {
        match input.blocking_read(PIECE as u64) {
            Ok(piece) => out.stream.write_all(&piece)?,
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        out.stream.blocking_flush()?;
    }
}

fn trailers(of: IncomingBody) -> Result<String> {
    let coming = IncomingBody::finish(of);
    coming.subscribe().block();
    let come = coming.get().ok_or("there is nothing yet")?.map_err(|()| "they were taken")?;
    Ok(come?.map_or(String::new(), |trailers| lines(&trailers)))
}

/// Asks whom the request says, with the request's body, and returns the status and the body of what comes.
fn fetch(request: &IncomingRequest) -> Result<(u16, IncomingBody)> {
    let given = request.headers();
    let header = |name: &str| Some(String::from_utf8_lossy(given.get(name).first()?).into_owned());
    let url = header("x-url").ok_or("there is no x-url")?;
    let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));

    let own = header("x-traceparent");
    let asking =
        OutgoingRequest::new(fields(&own.iter().map(|it| ("traceparent", &**it)).collect::<Vec<_>>())?);
    let method = match &*header("x-method").unwrap_or_else(|| "GET".to_owned()) {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    asking.set_method(&method).map_err(|()| "that is no method")?;
    asking.set_scheme(Some(&scheme)).map_err(|()| "that is no scheme")?;
    asking.set_authority(Some(authority)).map_err(|()| "that is nobody")?;
    asking.set_path_with_query(Some(path)).map_err(|()| "that is no path")?;

    let body = asking.body().map_err(|()| "the request has no body")?;
    let coming = outgoing_handler::handle(asking, None)?;
    let mut out = Out { stream: body.write().map_err(|()| "the body has no stream")?, body };
    // Whoever refuses need not have read it; the answer says more.
    let sent = copy(&request_body(request)?, &mut out).and_then(|()| out.finish(None));
    coming.subscribe().block();
    let come = coming.get().ok_or("there is nothing yet")?.map_err(|()| "it was taken")??;
    if let Err(error) = sent {
        eprintln!("the body: {error}");
    }
    Ok((come.status(), come.consume().map_err(|()| "the answer has no body")?))
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Each level needs the one below it, so that no compiler makes a loop of it.
fn descend(depth: u64) -> u64 {
    let local = black_box([depth; 16]);
    if depth == u64::MAX { 0 } else { descend(depth + 1).wrapping_add(black_box(local)[3]) }
}
