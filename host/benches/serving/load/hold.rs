//! Holds connections open on which nothing happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, ensure};
use clap::Args;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::client::source_address;
use super::http;
use crate::transport::Transport;
use crate::{MESSAGE, PATIENCE, tls};

/// Open connections, exchange a message on each, and stay
#[derive(Args, Debug)]
pub struct Hold {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    over: Transport,
    #[arg(long)]
    connections: usize,
}

trait Connection: Read + Write {}

impl<C: Read + Write> Connection for C {}

impl Hold {
    pub fn run(self) -> anyhow::Result<()> {
        let tls = tls::client_config(self.over)?;
        let open = |number| self.open(number, &tls).with_context(|| format!("connection {number}"));
        let connections: Vec<Box<dyn Connection>> =
            (0..self.connections).map(open).collect::<Result<_, _>>()?;
        println!("holding {}", connections.len());
        // Until the driver has seen enough.
        thread::sleep(60 * PATIENCE);
        Ok(())
    }

    fn open(&self, number: usize, tls: &Arc<ClientConfig>) -> anyhow::Result<Box<dyn Connection>> {
        let stream = self.connect(number)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream: Box<dyn Connection> = match self.over {
            Transport::Tcp | Transport::Udp | Transport::Http => Box::new(stream),
            Transport::Tls | Transport::TlsResumed => Box::new(StreamOwned::new(tls::client(tls)?, stream)),
        };
        let mut message = [0; MESSAGE];
        message[..8].copy_from_slice(&number.to_le_bytes());
        let answer = match self.over {
            Transport::Http => {
                stream.write_all(&http::request(&message))?;
                http::receive(&mut stream, &mut Vec::new())?
                    .context("the server closed the connection early")?
            }
            _ => {
                stream.write_all(&message)?;
                let mut answer = vec![0; MESSAGE];
                stream.read_exact(&mut answer)?;
                answer
            }
        };
        ensure!(answer == message, "other bytes came back");
        Ok(stream)
    }

    /// From one of many addresses: each has ports for less than thirty thousand connections.
    fn connect(&self, number: usize) -> anyhow::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::from((source_address(number), 0)).into())?;
        socket.connect_timeout(&self.address.into(), PATIENCE)?;
        Ok(socket.into())
    }
}
