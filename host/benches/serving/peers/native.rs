//! The same protocol in plain Rust, as fast as it goes without effort.

use std::convert::Infallible;
use std::future::ready;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use clap::{Args, ValueEnum};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use nix::unistd::{ForkResult, fork};
use rustix::buffer::spare_capacity;
use rustix::process::{WaitOptions, wait};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use wasmtime_wasi_http::io::TokioIo;

use super::REQUEST_QUEUE_SIZE;
use crate::BLOCK;
use crate::tls::Identity;

/// Echo without a sandbox
#[derive(Args, Debug)]
pub struct Native {
    server: Server,
    /// Serve over TLS with this certificate and key
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    tls: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Server {
    Sync,
    Thread,
    Accept,
    Fork,
    Tokio,
    Datagram,
    Hyper,
}

/// What `pool` has by default.
const WORKERS_A_CORE: usize = 4;

impl Native {
    pub fn run(self) -> anyhow::Result<()> {
        let tls = match &self.tls[..] {
            [certificate, key] => {
                let (certificate, key) = (certificate.clone(), key.clone());
                Some(Identity { certificate, key }.server_config()?)
            }
            _ => None,
        };
        let tls = tls.as_ref();
        match self.server {
            Server::Sync => Ok(echo_in_turn(&listen()?, tls)?),
            Server::Thread => Ok(listen()?.incoming().try_for_each(|stream| {
                let (stream, tls) = (stream?, tls.cloned());
                thread::Builder::new().spawn(move || echo(stream, tls.as_ref())).map(drop)
            })?),
            Server::Accept => Ok(accept_with_all(&listen()?, tls)?),
            Server::Fork => Ok(listen()?.incoming().try_for_each(|stream| fork_and_echo(stream?, tls))?),
            Server::Tokio => Ok(tokio::runtime::Runtime::new()?.block_on(serve_tasks(tls))?),
            Server::Datagram => Ok(echo_datagrams()?),
            Server::Hyper => Ok(tokio::runtime::Runtime::new()?.block_on(serve_http())?),
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

fn echo_in_turn(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>) -> io::Result<()> {
    listener.incoming().try_for_each(|stream| {
        // What a client does is not the server's trouble.
        let _ = echo(stream?, tls);
        Ok(())
    })
}

fn accept_with_all(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>) -> io::Result<()> {
    let workers = WORKERS_A_CORE * thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let accept = || scope.spawn(|| echo_in_turn(listener, tls));
        let workers: Vec<_> = (0..workers).map(|_| accept()).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })
}

fn echo(mut stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<()> {
    if let Some(tls) = tls {
        return echo_over_tls(stream, tls);
    }
    // Not initialized, and not on the stack, which is probed: a connection that sends little touches little.
    let mut buffer = Vec::with_capacity(BLOCK);
    while rustix::io::read(&stream, spare_capacity(&mut buffer))? > 0 {
        stream.write_all(&buffer)?;
        buffer.clear();
    }
    Ok(())
}

fn echo_over_tls(stream: TcpStream, tls: &Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut buffer = vec![0; BLOCK];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            stream.conn.send_close_notify();
            return stream.flush();
        }
        stream.write_all(&buffer[..length])?;
    }
}

fn fork_and_echo(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<()> {
    // SAFETY: this process has one thread, so that the child may go on as if it had been started anew.
    if let ForkResult::Child = unsafe { fork() }? {
        let _ = echo(stream, tls);
        // SAFETY: it ends the process at once; nothing is left to be flushed.
        unsafe { nix::libc::_exit(0) }
    }
    drop(stream);
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    Ok(())
}

/// The same for tasks.
fn listen_with_tasks() -> io::Result<tokio::net::TcpListener> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

async fn serve_tasks(tls: Option<&Arc<ServerConfig>>) -> io::Result<()> {
    let listener = listen_with_tasks()?;
    loop {
        let (stream, _) = listener.accept().await?;
        match tls {
            None => drop(tokio::spawn(echo_task(stream))),
            Some(tls) => drop(tokio::spawn(echo_task_over_tls(stream, TlsAcceptor::from(tls.clone())))),
        }
    }
}

async fn serve_http() -> io::Result<()> {
    let listener = listen_with_tasks()?;
    let echo = |request: Request<Incoming>| ready(Ok::<_, Infallible>(Response::new(request.into_body())));
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service_fn(echo));
        tokio::spawn(connection);
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

async fn echo_task_over_tls(stream: tokio::net::TcpStream, tls: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let mut buffer = Vec::with_capacity(BLOCK);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        stream.flush().await?;
        buffer.clear();
    }
    stream.shutdown().await
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
