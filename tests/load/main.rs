//! Puts load on a host that serves the guest `versioned` or `http_versioned`, and counts what comes of it.
//!
//! ```text
//! load SHORT LONG STAYING EVERY ADDRESS…
//! ```
//!
//! On each address of a stream server so many clients talk at once: `SHORT` that connect for every request,
//! `LONG` whose connections last for many lines, and `STAYING` whose connections last to the end. On each of a
//! datagram server there are `SHORT` clients with one datagram under way each. All the time the answers of a
//! connection must come from one version.
//!
//! To an address `http://HOST:PORT` each client sends requests of HTTP, one after the other by connections of these kinds.
//! The versions that answer a client must follow each other in the order of their names.
//!
//! Says `progress` and the number of requests after every `EVERY` of them, which are connections, datagrams and
//! requests of HTTP that ended well. Goes on until its standard input ends, and says what it counted.

mod client;
mod count;
mod http;

use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use client::{Address, Duration};
use count::Count;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((clients, addresses)) = parse(&arguments) else {
        eprintln!("usage: load SHORT LONG STAYING EVERY ADDRESS…");
        return ExitCode::from(2);
    };
    let [short, long, staying, every] = clients;
    let count = Count::new(every as u64);
    thread::scope(|scope| {
        let count = &count;
        for address in &addresses {
            let kinds = match address.is_datagram() {
                true => vec![(short, Duration::Line)],
                false => vec![(short, Duration::Line), (long, Duration::Lines), (staying, Duration::Stay)],
            };
            for (number, duration) in kinds {
                for _ in 0..number {
                    scope.spawn(move || client::run(address, duration, count));
                }
            }
        }
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        count.is_over.store(true, SeqCst);
    });
    println!("{count}");
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<([usize; 4], Vec<Address>)> {
    let (clients, addresses) = arguments.split_at_checked(4)?;
    let clients: Option<Vec<usize>> = clients.iter().map(|count| count.parse().ok()).collect();
    let addresses: Option<Vec<Address>> = addresses.iter().map(|address| Address::parse(address)).collect();
    Some((clients?.try_into().ok()?, addresses?))
}
