//! Holds connections open on which nothing happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, ensure};
use clap::Args;

use crate::{MESSAGE, PATIENCE};

/// Open connections, exchange a message on each, and stay
#[derive(Args, Debug)]
pub struct Hold {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    connections: usize,
}

impl Hold {
    pub fn run(self) -> anyhow::Result<()> {
        let open = |number| self.open(number).with_context(|| format!("connection {number}"));
        let connections: Vec<TcpStream> = (0..self.connections).map(open).collect::<Result<_, _>>()?;
        println!("holding {}", connections.len());
        // Until the driver has seen enough.
        thread::sleep(60 * PATIENCE);
        Ok(())
    }

    fn open(&self, number: usize) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut message = [0; MESSAGE];
        message[..8].copy_from_slice(&number.to_le_bytes());
        stream.write_all(&message)?;
        let mut answer = [0; MESSAGE];
        stream.read_exact(&mut answer)?;
        ensure!(answer == message, "other bytes came back");
        Ok(stream)
    }
}
