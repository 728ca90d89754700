//! How many connections wait in the kernel to be accepted.

#![allow(unsafe_code, reason = "getsockopt(2) writes a structure that no crate in use knows")]

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

/// The connections of a TCP listener that wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenQueue {
    pub(crate) waiting: u32,
    /// As many may wait; the system may allow fewer than were asked for.
    pub(crate) max: u32,
}

impl ListenQueue {
    /// `None` of a socket that is no TCP listener.
    pub(super) fn of(socket: BorrowedFd<'_>) -> Option<Self> {
        // SAFETY: it consists of integers, for which zeros are values.
        let mut info: libc::tcp_info = unsafe { mem::zeroed() };
        let mut length = size_of_val(&info) as libc::socklen_t;
        let (fd, level, name) = (socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO);
        // SAFETY: the kernel writes no more than `length` bytes to `info`, and what it leaves is zero.
        let asked = unsafe { libc::getsockopt(fd, level, name, (&raw mut info).cast(), &raw mut length) };
        // Of a listener these two fields have another meaning: tcp_get_info in the kernel's net/ipv4/tcp.c.
        (asked == 0).then_some(Self { waiting: info.tcpi_unacked, max: info.tcpi_sacked })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn those_that_wait_are_counted_until_they_are_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let queue = || ListenQueue::of(listener.as_fd()).unwrap();
        let ListenQueue { waiting: 0, max } = queue() else { panic!("{:?}", queue()) };
        assert!(max > 0);
        let _clients = [(); 3].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        assert_eq!(queue(), ListenQueue { waiting: 3, max });
        listener.accept().unwrap();
        assert_eq!(queue(), ListenQueue { waiting: 2, max });
    }

    #[test]
    fn packets_have_none() {
        assert_eq!(ListenQueue::of(UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()), None);
    }
}
