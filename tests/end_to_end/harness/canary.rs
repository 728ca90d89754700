//! A client that means well, while others do not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use plugsock::ServeAddress;

use super::Client;

/// Asks a server again and again, which must answer, and each time a plain echo of this process, too. Returns by how
/// much the server took longer: what a busy machine costs both does not count.
pub fn canary(
    address: &ServeAddress,
    asked: &[u8],
    answer: &[u8],
    is_over: impl Fn() -> bool,
) -> Vec<Duration> {
    let plain = plain_echo();
    let time = |address: &ServeAddress, answer: &[u8]| {
        let since = Instant::now();
        assert_eq!(Client::ask(address, asked), answer);
        since.elapsed()
    };
    let mut longer = Vec::new();
    while !is_over() {
        longer.push(time(address, answer).saturating_sub(time(&plain, asked)));
    }
    // Nothing to echo ends it.
    Client::ask(&plain, b"");
    longer.sort();
    longer
}

fn plain_echo() -> ServeAddress {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    thread::spawn(move || {
        let mut data = Vec::new();
        for mut client in listener.incoming().map_while(Result::ok) {
            data.clear();
            if client.read_to_end(&mut data).is_err() || data.is_empty() {
                break;
            }
            let _ = client.write_all(&data);
        }
    });
    address
}
