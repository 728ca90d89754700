//! Bytes before, in the place of and after a handshake.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::for_each_seed;
use crate::harness::for_each_strategy;
use crate::tls::fuzzing::{Target, WAYS};

#[test]
fn whatever_comes_around_a_handshake_ends_that_connection_alone() {
    for_each_strategy(|strategy| {
        for way in WAYS {
            let target = Target::serve(way, strategy);
            for_each_seed(40, |random| {
                let (socket, hello) = target.connect(random.below(2));
                let mut data = match random.below(4) {
                    0 => {
                        let length = random.below(400);
                        random.bytes(length)
                    }
                    1 => [&[22, 3, 1, 0, 200][..], &random.bytes(200)].concat(),
                    _ => random.mutated(&hello),
                };
                if random.below(4) == 0 {
                    let length = random.below(40);
                    data.splice(0..0, random.bytes(length));
                }
                random.in_pieces(&socket, &data);
                match random.below(3) {
                    0 => socket.set_linger(Some(std::time::Duration::ZERO)).unwrap(),
                    1 => drop(socket.shutdown(Shutdown::Write)),
                    // Whatever is said, it ends.
                    _ => {
                        let _ = (&socket).flush();
                        let _ = (&socket).read_to_end(&mut Vec::new());
                    }
                }
            });
            target.serves_on();
            let log = target.log();
            assert!(!log.contains("panicked") && !log.contains("host error"), "{log}");
        }
    });
}
