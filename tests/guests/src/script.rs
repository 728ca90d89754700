//! Makes the host calls that its client names, a byte and an operand each, whatever comes of them; then says
//! `done`.

use std::time::Duration;

use plugsock_sdk::wasi::io::poll::poll;
use plugsock_sdk::wasi::io::streams::{InputStream, OutputStream};
use plugsock_sdk::{Address, Request, RequestHandler, Result, ShutdownHow, UnixAddress, export};

#[derive(Default)]
struct Guest {
    rfiles: Vec<InputStream>,
    wfiles: Vec<OutputStream>,
}

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let script = request.recv(512)?;
        for step in script.chunks(2) {
            self.call(request, step[0], step.get(1).copied().unwrap_or(0));
        }
        request.send(b"done")?;
        Ok(())
    }

    fn finish(&mut self, request: &Request) -> Result {
        let _ = request.recv(1);
        Ok(())
    }
}

export!(Guest: RequestHandler);

impl Guest {
    fn call(&mut self, request: &Request, name: u8, operand: u8) {
        let data = vec![operand; usize::from(operand) * 300];
        match name % 22 {
            0 => drop(request.recv(u32::from(operand) << 16)),
            1 => drop(request.send(&data)),
            2 => {
                let how = [ShutdownHow::Read, ShutdownHow::Write, ShutdownHow::Both];
                let _ = request.shutdown(how[usize::from(operand % 3)]);
            }
            3 => {
                let time = Duration::from_millis(u64::from(operand % 20));
                let _ = request.set_timeout((operand < 200).then_some(time.as_nanos() as u64));
            }
            4 => drop(request.set_nodelay(operand > 127)),
            5 => self.rfiles.extend(request.rfile()),
            6 => self.wfiles.extend(request.wfile()),
            7 => drop(self.rfiles.pop()),
            8 => drop(self.wfiles.pop()),
            9 => self.rfiles.iter().for_each(|rfile| drop(rfile.read(u64::from(operand)))),
            10 => self.rfiles.iter().take(1).for_each(|rfile| drop(rfile.blocking_read(u64::from(operand)))),
            11 => self.rfiles.iter().for_each(|rfile| drop(rfile.skip(u64::MAX))),
            12 => self.wfiles.iter().for_each(|wfile| {
                let room = wfile.check_write().unwrap_or(0) as usize;
                // One byte more than there is room for is a trap.
                let length = data.len().min(room + usize::from(operand == 255));
                let _ = wfile.write(&data[..length]);
            }),
            13 => self.wfiles.iter().for_each(|wfile| drop(wfile.flush())),
            14 => self.wfiles.iter().take(1).for_each(|wfile| drop(wfile.blocking_flush())),
            15 => self.wfiles.iter().take(1).for_each(|wfile| {
                let _ = wfile.blocking_write_and_flush(&data[..data.len().min(4096)]);
            }),
            16 => self.wfiles.iter().for_each(|wfile| drop(wfile.write_zeroes(u64::from(operand)))),
            17 => {
                let ready = self.rfiles.iter().map(|rfile| rfile.subscribe().ready());
                let _ = ready.filter(|ready| *ready).count();
            }
            18 => {
                let waits: Vec<_> = self.wfiles.iter().map(OutputStream::subscribe).collect();
                if !waits.is_empty() {
                    poll(&waits.iter().collect::<Vec<_>>());
                }
            }
            19 => {
                let to = Address::Unix(UnixAddress::AbstractName(vec![operand]));
                let _ = request.send_to(&data, &to);
            }
            20 => {
                let _ = (request.id(), request.server(), request.worker(), request.client_address());
                let _ = request.unix_credentials();
            }
            _ => {
                if let (Some(rfile), Some(wfile)) = (self.rfiles.first(), self.wfiles.first()) {
                    let _ = wfile.splice(rfile, u64::from(operand));
                }
            }
        }
    }
}
