//! A process that runs guest code has nothing of what the operator keeps secret.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use rustix::process::Pid;

use super::client::TlsClient;
use super::{Protected, Way};
use crate::harness::{children, wait_until};

/// All that a process has mapped and that can be read, piece by piece.
fn memory(process: Pid) -> Vec<Vec<u8>> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let read = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        // What is reserved for memories of guests and not used is nothing but zeros, and terabytes of it.
        if !rest.starts_with('r') || end - begin > 1 << 30 {
            return None;
        }
        let mut piece = vec![0; (end - begin) as usize];
        memory.read_exact_at(&mut piece, begin).ok().map(|()| piece)
    };
    maps.lines().filter_map(read).collect()
}

/// What is there, with a little of what lies before and after it.
fn find<'a>(memory: &'a [Vec<u8>], wanted: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    memory.iter().flat_map(move |piece| {
        let places = piece.windows(wanted.len()).enumerate().filter(move |(_, bytes)| *bytes == wanted);
        places.map(move |(at, _)| &piece[at.saturating_sub(64)..])
    })
}

/// The number that a private key of P-256 is, as RFC 5915 has it in PKCS #8.
fn scalar(pkcs8: &[u8]) -> Vec<u8> {
    let mark = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = pkcs8.windows(mark.len()).position(|bytes| bytes == mark).unwrap() + mark.len();
    pkcs8[at..][..32].to_vec()
}

/// That number times 2^256, modulo the curve's order, in little-endian bytes: the form in which ring keeps it.
fn kept_by_ring(scalar: &[u8]) -> Vec<u8> {
    const ORDER: [u64; 4] =
        [0xf3b9_cac2_fc63_2551, 0xbce6_faad_a717_9e84, 0xffff_ffff_ffff_ffff, 0xffff_ffff_0000_0000];
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(scalar.rchunks(8)) {
        *limb = u64::from_be_bytes(bytes.try_into().unwrap());
    }
    for _ in 0..256 {
        let is_beyond = limbs[3] >> 63 == 1;
        let doubled: [u64; 4] = std::array::from_fn(|at| {
            limbs[at] << 1 | at.checked_sub(1).map_or(0, |below| limbs[below] >> 63)
        });
        let (mut less, mut borrows) = ([0; 4], false);
        for at in 0..4 {
            let (once, first) = doubled[at].overflowing_sub(ORDER[at]);
            let (twice, second) = once.overflowing_sub(u64::from(borrows));
            (less[at], borrows) = (twice, first || second);
        }
        limbs = if is_beyond || !borrows { less } else { doubled };
    }
    limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

/// A ticket of TLS 1.2, which the server sends in the clear.
fn ticket(client: &mut TlsClient) -> Vec<u8> {
    const LIFETIME: [u8; 4] = (6 * 3600_u32).to_be_bytes();
    let mut seen = Vec::new();
    while client.connection.is_handshaking() {
        while client.connection.wants_write() {
            client.connection.write_tls(&mut &client.socket).unwrap();
        }
        let mut data = [0; 4096];
        let length = (&client.socket).read(&mut data).unwrap();
        assert_ne!(length, 0);
        seen.extend_from_slice(&data[..length]);
        client.connection.read_tls(&mut &data[..length]).unwrap();
        client.connection.process_new_packets().unwrap();
    }
    let at = seen.windows(4).position(|bytes| bytes == LIFETIME).expect("it got a ticket") + 4;
    let length = usize::from(u16::from_be_bytes([seen[at], seen[at + 1]]));
    seen[at + 2..][..length].to_vec()
}

/// What tickets of children are bound to, between the key's name and the certificate's digest.
const CHILDS: u8 = 1;

/// What opens a ticket: in the host it lies beside the name of the key, which the ticket begins with.
fn secret(memory: &[Vec<u8>], certificate: &[u8], ticket: &[u8]) -> Option<Vec<u8>> {
    let (id, sealed) = ticket.split_at(16);
    let (nonce, sealed) = sealed.split_at(12);
    let certificate = digest(&SHA256, certificate);
    // Nobody says in which order they lie.
    let candidates = find(memory, id).flat_map(|from| (0..160).filter_map(move |at| from.get(at..at + 32)));
    candidates
        .filter(|secret| {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).unwrap());
            let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
            let bound = Aad::from([id, &[CHILDS], certificate.as_ref()].concat());
            key.open_in_place(nonce, bound, &mut sealed.to_vec()).is_ok()
        })
        .map(<[u8]>::to_vec)
        .next()
}

#[test]
fn a_child_has_neither_a_private_key_nor_a_key_of_tickets() {
    for way in [Way::Listener, Way::Setup, Way::Command] {
        let protected = Protected::serve(way, &["--concurrency", "forking"]);
        let mut client = way.connect(&protected.host, &protected.settings(0));
        let ticket = ticket(&mut client);
        // Its child waits for more.
        client.send(b"hello");
        assert_eq!(client.recv_exact(5), b"hello");
        let fork_server = children(protected.host.pid()).remove(0);
        wait_until(|| children(fork_server).len() == 1);
        let child = children(fork_server).remove(0);
        let key = protected.certified.key.serialize_der();
        let pem = protected.certified.key.serialize_pem();
        let [host, fork_server, child] = [protected.host.pid(), fork_server, child].map(memory);
        let secret = secret(&host, &protected.certified.der(), &ticket);
        let secret = secret.expect("the host has what opens its tickets");
        // What is looked for can be found.
        let kept = kept_by_ring(&scalar(&key));
        assert!(find(&host, &kept).next().is_some(), "the host has the key in another form");
        for (name, memory) in [("fork server", fork_server), ("child", child)] {
            // The certificate is none of it, and shows that the memory is looked at.
            let size = memory.iter().map(Vec::len).sum::<usize>();
            assert!(size > 1 << 20, "{name}: {size} bytes");
            for (what, bytes) in [
                ("key", &scalar(&key)[..]),
                ("key as ring has it", &kept),
                ("file", &pem.as_bytes()[40..80]),
                ("ticket key", &secret),
            ] {
                assert!(find(&memory, bytes).next().is_none(), "the {name} has the {what}, {way:?}");
            }
        }
    }
}
