//! Receives one packet and what the kernel says of it, whether that was asked for or not.
//!
//! A socket that somebody else made may have options that add messages to each packet, and a client of a Unix
//! socket may pass descriptors. What is not understood is skipped, and descriptors are closed.

#![allow(unsafe_code, reason = "it reads what recvmsg(2) wrote, and closes descriptors that came along")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use socket2::{SockAddr, Socket};

use super::{LocalAddress, UnixCredentials};

/// A packet's envelope.
pub(super) struct Message {
    /// Its whole length, also where the buffer was shorter.
    pub(super) length: usize,
    pub(super) client_address: SockAddr,
    pub(super) credentials: Option<UnixCredentials>,
    pub(super) local_address: Option<LocalAddress>,
}

/// Room for what the kernel says. What is asked for comes early, so that it is there also where this is too short.
const CONTROL_MAX: usize = 4096;

/// Aligned as the kernel's headers are.
#[repr(align(8))]
struct Control([u8; CONTROL_MAX]);

/// A process as a descriptor, with `SO_PASSPIDFD`.
const SCM_PIDFD: libc::c_int = 4;

/// The next packet, as far as it fits; never blocks.
pub(super) fn recvmsg(socket: &Socket, packet: &mut [u8]) -> io::Result<Message> {
    // With MSG_TRUNC the kernel reports a packet's whole length, also where it does not fit.
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    let mut control = Control([0; CONTROL_MAX]);
    let mut slice = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
    // SAFETY: of a header with null pointers and no lengths, all bytes are zero.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_MAX as _;
    let receive = |name: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        header.msg_name = name.cast();
        // SAFETY: `try_init` gives a length to read and to write.
        header.msg_namelen = unsafe { *length };
        // SAFETY: the header has pointers to memory that is borrowed here for writing, each with its length.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, FLAGS) };
        // SAFETY: as above.
        unsafe { *length = header.msg_namelen };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    };
    // SAFETY: the kernel writes an address of the length that it says, or none, and the length 0.
    let (length, client_address) = unsafe { SockAddr::try_init(receive) }?;
    let mut message = Message { length, client_address, credentials: None, local_address: None };
    let said = &control.0[..header.msg_controllen.min(CONTROL_MAX)];
    for (level, kind, data) in controls(said) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD) => close(data),
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                message.credentials = read::<libc::ucred>(data).map(|from| UnixCredentials {
                    pid: u32::try_from(from.pid).ok().filter(|pid| *pid != 0),
                    uid: from.uid,
                    gid: from.gid,
                });
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if message.local_address.is_none() => {
                message.local_address = read::<libc::in_pktinfo>(data)
                    .map(|info| LocalAddress::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                message.local_address = read::<libc::in6_pktinfo>(data).map(|info| {
                    LocalAddress::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr), info.ipi6_ifindex as _)
                });
            }
            _ => {}
        }
    }
    Ok(message)
}

/// Takes the kernel's messages apart: level, type and data of each. The last may have been cut off.
fn controls(mut said: &[u8]) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
    // SAFETY: it calculates.
    let header_length = unsafe { libc::CMSG_LEN(0) } as usize;
    std::iter::from_fn(move || {
        let header: libc::cmsghdr = read(said)?;
        let length = header.cmsg_len.clamp(header_length, said.len().max(header_length));
        let data = said.get(header_length..length)?;
        // SAFETY: it calculates.
        let space = unsafe { libc::CMSG_SPACE(data.len() as _) } as usize;
        said = said.get(space..).unwrap_or_default();
        Some((header.cmsg_level, header.cmsg_type, data))
    })
}

/// What the kernel wrote of a plain type's numbers: any bytes are one.
trait Plain: Copy {}

impl Plain for libc::c_int {}
impl Plain for libc::cmsghdr {}
impl Plain for libc::ucred {}
impl Plain for libc::in_pktinfo {}
impl Plain for libc::in6_pktinfo {}

/// The value at the beginning of some bytes, if they are enough.
fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are as many bytes as it has, and any are a value of a plain type.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Closes descriptors that nobody asked for.
fn close(data: &[u8]) {
    for fd in data.chunks(size_of::<RawFd>()).filter_map(read::<RawFd>) {
        // Negative is the kernel's word for one that it could not give.
        if fd >= 0 {
            // SAFETY: the kernel has just opened it for this process, and nobody else knows of it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_cut_off_are_read_as_far_as_they_go() {
        let mut said = Vec::new();
        for (kind, data) in [(41, &[1u8; 4][..]), (42, &[2; 13]), (43, &[3; 32])] {
            let length = size_of::<libc::cmsghdr>() + data.len();
            said.extend((length as libc::size_t).to_ne_bytes());
            said.extend([1i32, kind].map(i32::to_ne_bytes).concat());
            said.extend(data);
            said.resize(said.len().next_multiple_of(8), 0);
        }
        let kinds = |said: &[u8]| -> Vec<(i32, usize)> {
            controls(said).map(|(_, kind, data)| (kind, data.len())).collect()
        };
        assert_eq!(kinds(&said), [(41, 4), (42, 13), (43, 32)]);
        assert_eq!(kinds(&said[..said.len() - 5]), [(41, 4), (42, 13), (43, 27)]);
        for length in 0..said.len() {
            assert!(kinds(&said[..length]).len() <= 3);
        }
        said[..8].copy_from_slice(&0usize.to_ne_bytes());
        assert_eq!(kinds(&said)[0], (41, 0));
        said[..8].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(kinds(&said), [(41, said.len() - 16)]);
    }
}
