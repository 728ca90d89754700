//! One good client, and many ways to be a bad one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::thread;
use std::time::Duration;

use plugsock::ServeAddress;

use crate::harness::{Client, pattern};

/// How long a bad client keeps what it has taken.
const HOLD: Duration = Duration::from_millis(200);

/// Whence bad clients come, so that their limits are not those of the good ones.
const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

pub type Bad = fn(&ServeAddress) -> io::Result<()>;

/// Like [`Client::ask`], with an error instead of a panic.
pub fn try_ask(address: &ServeAddress, data: &[u8]) -> io::Result<Vec<u8>> {
    let client = Client::try_connect(address)?;
    let mut socket = &client.socket;
    let mut answer = vec![0; 128 * 1024];
    if address.server_type().is_datagram() {
        socket.write_all(data)?;
        let length = socket.read(&mut answer)?;
        answer.truncate(length);
        return Ok(answer);
    }
    socket.write_all(data)?;
    socket.shutdown(Shutdown::Write)?;
    answer.clear();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Asks for something and reads to the end, whatever that is; of what has no end only the beginning, slowly.
pub fn ask_and_wait(address: &ServeAddress, what: &str) -> io::Result<()> {
    let client = Client::try_connect(address)?;
    (&client.socket).write_all(format!("{what}\n").as_bytes())?;
    for _ in 0..20 {
        if (&client.socket).read(&mut [0; 4096])? == 0 {
            break;
        }
        thread::sleep(HOLD / 20);
    }
    Ok(())
}

pub fn ways_to_be_bad(address: &ServeAddress) -> &'static [Bad] {
    if address.server_type().is_datagram() {
        return &[flood_with_empty_packets, send_too_large_packets, ask_and_go];
    }
    &[
        go_at_once,
        reset,
        ask_and_reset,
        half_close_and_never_read,
        send_nothing,
        send_slowly,
        never_read,
        flood,
    ]
}

fn connect(address: &ServeAddress) -> Client {
    Client::connect_from(BAD, address)
}

fn go_at_once(address: &ServeAddress) -> io::Result<()> {
    drop(connect(address));
    Ok(())
}

fn reset(address: &ServeAddress) -> io::Result<()> {
    connect(address).reset();
    Ok(())
}

fn ask_and_reset(address: &ServeAddress) -> io::Result<()> {
    let client = connect(address);
    (&client.socket).write_all(&pattern(50_000))?;
    client.reset();
    Ok(())
}

fn half_close_and_never_read(address: &ServeAddress) -> io::Result<()> {
    let client = connect(address);
    (&client.socket).write_all(b"hello")?;
    client.socket.shutdown(Shutdown::Write)
}

fn send_nothing(address: &ServeAddress) -> io::Result<()> {
    let _idle: Vec<Client> = (0..6).map(|_| connect(address)).collect();
    thread::sleep(HOLD);
    Ok(())
}

fn send_slowly(address: &ServeAddress) -> io::Result<()> {
    let client = connect(address);
    for _ in 0..10 {
        (&client.socket).write_all(b"a")?;
        thread::sleep(HOLD / 10);
    }
    Ok(())
}

fn never_read(address: &ServeAddress) -> io::Result<()> {
    let client = connect(address);
    client.socket.set_write_timeout(Some(HOLD))?;
    while (&client.socket).write_all(&[0; 65_536]).is_ok() {}
    Ok(())
}

/// Far more than its share; the last waits to see what becomes of those beyond it.
fn flood(address: &ServeAddress) -> io::Result<()> {
    let clients: Vec<Client> = (0..50).map(|_| connect(address)).collect();
    let last = &clients[clients.len() - 1].socket;
    last.set_read_timeout(Some(HOLD))?;
    { last }.read(&mut [0]).map(drop)
}

fn flood_with_empty_packets(address: &ServeAddress) -> io::Result<()> {
    let client = connect(address);
    (0..100).try_for_each(|_| client.socket.send(b"").map(drop))
}

fn send_too_large_packets(address: &ServeAddress) -> io::Result<()> {
    let client = connect(address);
    (0..20).try_for_each(|_| client.socket.send(&[0; 10_000]).map(drop))
}

fn ask_and_go(address: &ServeAddress) -> io::Result<()> {
    connect(address).socket.send(b"hello").map(drop)
}
