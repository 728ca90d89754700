//! One room for all its clients: the first line is a name, and each further line is said to everybody who is there.
//!
//! What is said lies in the store `room` (`room.rs`), where everybody looks for it; so it does not matter in which process,
//! or on which machine, a client is served.

mod lines;
mod room;

use plugsock_sdk::wasi::clocks::monotonic_clock::subscribe_duration;
use plugsock_sdk::wasi::io::poll::poll;
use plugsock_sdk::wasi::io::streams::{InputStream, OutputStream, StreamError};
use plugsock_sdk::{HandlerError, Request, RequestHandler, Result, export};

use lines::Lines;
use room::Room;

/// How often it is looked for what others have said, in nanoseconds.
const LOOK: u64 = 100_000_000;

/// How much is read at once.
const CHUNK: u64 = 4096;

#[derive(Default)]
struct Chat;

impl RequestHandler for Chat {
    fn handle(&mut self, request: &Request) -> Result {
        let mut room = Room::enter(request.server().state("room")?)?;
        let (rfile, wfile) = (request.rfile()?, request.wfile()?);
        let mut lines = Lines::default();
        let mut name = None;
        say(&wfile, "Your name?\n")?;
        loop {
            let is_over = !wait(&rfile, &mut lines)?;
            while let Some(line) = lines.next(is_over) {
                match &name {
                    None if line.is_empty() => return say(&wfile, "Another time, then.\n"),
                    None => {
                        room.say(&format!("* {line} has come\n"))?;
                        name = Some(line);
                    }
                    Some(name) => room.say(&format!("{name}: {line}\n"))?,
                }
            }
            if let Some(name) = &name {
                if is_over {
                    room.say(&format!("* {name} has gone\n"))?;
                }
                room.hear(|message| say(&wfile, message))?;
            }
            if is_over {
                return Ok(());
            }
        }
    }
}

export!(Chat: RequestHandler);

/// Waits for the client, or until it is time to look what others have said; whether the client may still say something.
fn wait(rfile: &InputStream, lines: &mut Lines) -> Result<bool> {
    let (client, timer) = (rfile.subscribe(), subscribe_duration(LOOK));
    poll(&[&client, &timer]);
    if !client.ready() {
        return Ok(true);
    }
    match rfile.read(CHUNK) {
        Ok(data) => lines.push(&data).map(|()| true),
        Err(StreamError::Closed) => Ok(false),
        Err(error) => Err(in_words(error)),
    }
}

fn say(wfile: &OutputStream, message: &str) -> Result {
    // A stream takes 4096 bytes of one call.
    for part in message.as_bytes().chunks(4096) {
        wfile.blocking_write_and_flush(part).map_err(in_words)?;
    }
    Ok(())
}

fn in_words(error: StreamError) -> HandlerError {
    match error {
        StreamError::Closed => HandlerError::new("the client has gone"),
        StreamError::LastOperationFailed(error) => HandlerError::new(error.to_debug_string()),
    }
}
