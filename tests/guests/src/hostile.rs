//! Does the harm that its client names, and is good to the one who asks for `nothing`.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bindings::wasi::cli::stderr::get_stderr;
use crate::bindings::wasi::random::random::get_random_bytes;
use plugsock_sdk::wasi::io::poll::poll;
use plugsock_sdk::{HandlerError, Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = String::new();
        request.rfile.read_line(&mut line)?;
        match line.trim_end() {
            "nothing" => request.wfile.write_all(b"well")?,
            "loop" => endless(|number| number),
            "fill memory" => {
                let mut memory = vec![0u8; 16 << 20];
                endless(|number| memory.fill(number as u8));
            }
            "take memory" => {
                let mut taken = Vec::new();
                endless(|_| taken.push(black_box(vec![1u8; 1 << 20])));
            }
            "grow memory" => {
                let mut memory = Vec::<u8>::new();
                while memory.try_reserve_exact(1 << 20).is_ok() {
                    std::mem::forget(std::mem::take(&mut memory));
                }
                std::process::abort();
            }
            "call the host" => endless(|_| Instant::now()),
            "print" => endless(|number| println!("line {number}")),
            "print bytes" => endless(|_| eprint!(".")),
            "print at once" => {
                let _ = get_stderr().write(&vec![b'\n'; 4 << 20]);
            }
            "sleep" => sleep(Duration::from_secs(1 << 40)),
            "poll nothing" => {
                poll(&[]);
            }
            "random" => endless(|_| get_random_bytes(1 << 30)),
            "open files" => {
                let mut open = Vec::new();
                for name in (0..).map(|number| number % 100) {
                    open.push(File::open(format!("/data/{name}")).map_err(HandlerError::from)?);
                }
            }
            "open streams" => {
                let mut open = Vec::new();
                endless(|_| open.push(request.connection.rfile()));
            }
            "subscribe" => {
                let rfile = request.connection.rfile()?;
                let mut open = Vec::new();
                endless(|_| open.push(rfile.subscribe()));
            }
            "never read" => sleep(Duration::from_secs(1 << 40)),
            "write" => loop {
                request.wfile.write_all(&[b'x'; 64 << 10])?;
            },
            "long error" => return Err(HandlerError::new("long ".repeat(1 << 20))),
            "long panic" => panic!("{}", "long ".repeat(1 << 16)),
            "exit" => std::process::exit(1),
            harm => return Err(HandlerError::new(format!("what is '{harm}'?"))),
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);

fn endless<T>(mut step: impl FnMut(u64) -> T) {
    for number in 0.. {
        black_box(step(number));
    }
}

/// Named with a version of its own: the linker merges equal ones, and refuses a part of an interface.
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package guests:hostile;

            world imports {
                import wasi:cli/stderr@0.2.1;
                import wasi:random/random@0.2.1;
            }

            package wasi:io@0.2.1 {
                interface error {
                    resource error;
                }
                interface streams {
                    use error.{error};
                    variant stream-error { last-operation-failed(error), closed }
                    resource output-stream {
                        write: func(contents: list<u8>) -> result<_, stream-error>;
                    }
                }
            }

            package wasi:cli@0.2.1 {
                interface stderr {
                    use wasi:io/streams@0.2.1.{output-stream};
                    get-stderr: func() -> output-stream;
                }
            }

            package wasi:random@0.2.1 {
                interface random {
                    get-random-bytes: func(len: u64) -> list<u8>;
                }
            }
        ",
        world: "guests:hostile/imports",
        generate_all,
    });
}
