//! What reads bytes from outside is given bytes that nobody would send: made at random, and the same in every
//! run. `PLUGSOCK_FUZZ_ROUNDS` multiplies how many, and `PLUGSOCK_FUZZ_SEED` chooses others; a failure names
//! its own seed.

mod components;
mod control;
mod preview1;
mod proxy;
mod random;
mod requests;
mod texts;
mod tls;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use random::Random;

/// Tries a property with `count` seeds, or as many times more as the environment asks for; how many it were.
fn for_each_seed(count: u64, property: impl Fn(&mut Random)) -> usize {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let first = number("PLUGSOCK_FUZZ_SEED").unwrap_or(0);
    let rounds = number("PLUGSOCK_FUZZ_ROUNDS").unwrap_or(1);
    let count = count * rounds;
    for seed in first..first + count {
        let tried = catch_unwind(AssertUnwindSafe(|| property(&mut Random::new(seed))));
        if let Err(panic) = tried {
            eprintln!("failed with PLUGSOCK_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
    }
    count as usize
}
