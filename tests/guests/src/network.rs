//! Obeys `connect ADDRESS`, `send ADDRESS`, `listen ADDRESS`, `bind ADDRESS` and `resolve NAME`, and answers
//! what came of it.

use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        for line in request.rfile.by_ref().lines() {
            match obey(&line?) {
                Ok(answer) => writeln!(request.wfile, "{answer}")?,
                Err(error) => writeln!(request.wfile, "error: {:?}", error.kind())?,
            }
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);

fn obey(line: &str) -> io::Result<String> {
    match line.split_once(' ') {
        Some(("connect", address)) => {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"hello")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        }
        Some(("send", address)) => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(b"hello", address)?;
            let mut answer = [0; 100];
            let (length, _) = socket.recv_from(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        }
        Some(("listen", address)) => Ok(TcpListener::bind(address)?.local_addr()?.to_string()),
        Some(("bind", address)) => Ok(UdpSocket::bind(address)?.local_addr()?.to_string()),
        Some(("resolve", name)) => {
            let addresses = (name, 0).to_socket_addrs()?.map(|address| address.ip().to_string());
            Ok(addresses.collect::<Vec<_>>().join(" "))
        }
        _ => Err(io::Error::other("connect, send, listen, bind or resolve")),
    }
}
