//! The same protocol in plain Rust, as fast as it goes without effort.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use clap::{Args, ValueEnum};
use nix::unistd::{ForkResult, fork};
use rustix::buffer::spare_capacity;
use rustix::process::{WaitOptions, wait};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::REQUEST_QUEUE_SIZE;
use crate::BLOCK;

/// Echo without a sandbox
#[derive(Args, Debug)]
pub struct Native {
    server: Server,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Server {
    Sync,
    Thread,
    Accept,
    Fork,
    Tokio,
    Datagram,
}

/// What `pool` has by default.
const WORKERS_A_CORE: usize = 4;

impl Native {
    pub fn run(self) -> anyhow::Result<()> {
        match self.server {
            Server::Sync => Ok(echo_in_turn(&listen()?)?),
            Server::Thread => Ok(listen()?.incoming().try_for_each(|stream| {
                let stream = stream?;
                thread::Builder::new().spawn(|| echo(stream)).map(drop)
            })?),
            Server::Accept => Ok(accept_with_all(&listen()?)?),
            Server::Fork => Ok(listen()?.incoming().try_for_each(|stream| fork_and_echo(stream?))?),
            Server::Tokio => Ok(tokio::runtime::Runtime::new()?.block_on(serve_tasks())?),
            Server::Datagram => Ok(echo_datagrams()?),
        }
    }
}

/// Binds a port, and says that it is ready.
pub(super) fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(REQUEST_QUEUE_SIZE)?;
    let listener = TcpListener::from(socket);
    println!("ready tcp://{}", listener.local_addr()?);
    Ok(listener)
}

fn echo_in_turn(listener: &TcpListener) -> io::Result<()> {
    listener.incoming().try_for_each(|stream| {
        // What a client does is not the server's trouble.
        let _ = echo(stream?);
        Ok(())
    })
}

fn accept_with_all(listener: &TcpListener) -> io::Result<()> {
    let workers = WORKERS_A_CORE * thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let accept = || scope.spawn(|| echo_in_turn(listener));
        let workers: Vec<_> = (0..workers).map(|_| accept()).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    // Not initialized, and not on the stack, which is probed: a connection that sends little touches little.
    let mut buffer = Vec::with_capacity(BLOCK);
    while rustix::io::read(&stream, spare_capacity(&mut buffer))? > 0 {
        stream.write_all(&buffer)?;
        buffer.clear();
    }
    Ok(())
}

fn fork_and_echo(stream: TcpStream) -> io::Result<()> {
    // SAFETY: this process has one thread, so that the child may go on as if it had been started anew.
    if let ForkResult::Child = unsafe { fork() }? {
        let _ = echo(stream);
        // SAFETY: it ends the process at once; nothing is left to be flushed.
        unsafe { nix::libc::_exit(0) }
    }
    drop(stream);
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    Ok(())
}

async fn serve_tasks() -> io::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo_task(stream));
    }
}

async fn echo_task(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BLOCK);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    Ok(())
}

fn echo_datagrams() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("ready udp://{}", socket.local_addr()?);
    let mut buffer = [0; BLOCK];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], client)?;
    }
}
