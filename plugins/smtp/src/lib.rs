//! Takes mail, for anybody from anybody, and writes each message to the directory `/mail` (RFC 5321). It sends none on.

use std::io::{BufRead, ErrorKind, Write};
use std::time::Duration;

use plugsock_sdk::{HandlerError, Result, StreamRequest, StreamRequestHandler, TlsError, export};

mod command;
mod date;
mod line;
mod mailbox;
mod options;
mod path;
mod reply;
mod session;
mod text;
mod trace;

use mailbox::Message;
use options::Options;
use reply::Reply;
use session::{Envelope, Session, Step};
use text::Text;
use trace::Trace;

#[derive(Default)]
struct Smtp;

impl StreamRequestHandler for Smtp {
    /// So long a client may take for its next command, and for a next part of its message (RFC 5321, 4.5.3.2).
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(5 * 60));

    /// Replies to commands that came together leave together (RFC 2920, 3.2).
    const WBUFSIZE: usize = 4096;

    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let server = request.server();
        if server.server_type.is_datagram() {
            return Err(HandlerError::new("a datagram is no connection: serve tcp:// or unix:// addresses"));
        }
        let options = Options::parse(std::env::args().skip(1), server.server_address.ip())?;
        match serve(request, &options) {
            Err(Failed::TimedOut) => {
                request
                    .wfile
                    .write_all(Reply::new(421, "4.4.2 that took too long").to_string().as_bytes())?;
                Ok(())
            }
            Err(Failed::Otherwise(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }
}

export!(Smtp: StreamRequestHandler);

enum Failed {
    /// The client has said nothing for too long, which it is told.
    TimedOut,
    Otherwise(HandlerError),
}

impl<E: std::error::Error + 'static> From<E> for Failed {
    fn from(error: E) -> Self {
        match (&error as &dyn std::any::Any).downcast_ref::<std::io::Error>() {
            Some(error) if error.kind() == ErrorKind::TimedOut => Failed::TimedOut,
            _ => Failed::Otherwise(error.into()),
        }
    }
}

fn serve(request: &mut StreamRequest, options: &Options) -> Result<(), Failed> {
    let mut session = Session::new(options, request.tls());
    say(request, &Reply::new(220, format!("{} ESMTP", options.name)))?;
    loop {
        // Nothing more can be answered before the client has had its answers.
        if !request.rfile.buffer().contains(&b'\n') {
            request.wfile.flush()?;
        }
        let Some(line) = line::read(&mut request.rfile)? else { return Ok(()) };
        match session.step(&line) {
            Step::Answer(reply) => say(request, &reply)?,
            Step::End(reply) => return say(request, &reply),
            Step::Receive(envelope) => {
                let trace = session.trace(request.client_address().ip());
                let Some(reply) = receive(request, options, &envelope, &trace)? else { return Ok(()) };
                say(request, &reply)?;
            }
            Step::StartTls => {
                say(request, &Reply::new(220, "2.0.0 begin TLS"))?;
                match request.start_tls(None, &[]) {
                    // All that was said before is forgotten (RFC 3207, 4.2).
                    Ok(tls) => session = Session::new(options, Some(tls)),
                    // Its next bytes are TLS's, and no commands.
                    Err(error @ TlsError::NoIdentity(_)) => {
                        eprintln!("STARTTLS was refused: {}", error.message());
                        return say(request, &session::no_tls());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

fn say(request: &mut StreamRequest, reply: &Reply) -> Result<(), Failed> {
    Ok(request.wfile.write_all(reply.to_string().as_bytes())?)
}

/// Takes the message that follows DATA, and says what has become of it; nothing if it broke off.
fn receive(
    request: &mut StreamRequest,
    options: &Options,
    envelope: &Envelope,
    trace: &Trace,
) -> Result<Option<Reply>, Failed> {
    say(request, &Reply::new(354, "end it with a line of one dot"))?;
    request.wfile.flush()?;
    // What is refused is read to its end all the same, since the client does not listen before.
    let mut message = Message::create(request.id()).and_then(|mut message| {
        message.write(trace.header(envelope, message.name()).as_bytes())?;
        Ok(message)
    });
    let mut text = Text::default();
    let mut lines = Vec::new();
    while !text.is_whole() {
        let received = request.rfile.fill_buf()?;
        if received.is_empty() {
            return Ok(None);
        }
        let taken = text.decode(received, &mut lines);
        request.rfile.consume(taken);
        message = message.and_then(|mut message| match text.fault(options.max_size) {
            Some(fault) => Err(fault),
            None => message.write(&lines).map(|()| message),
        });
        lines.clear();
    }
    Ok(Some(match message.and_then(Message::deliver) {
        Ok(name) => Reply::new(250, format!("2.0.0 kept as {name}")),
        Err(refusal) => refusal,
    }))
}
