//! Random numbers that are the same in every run (SplitMix64), and what is made of them.

use std::io::Write;

pub struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Mixed, since the numbers of one seed would else be those of the next, but for the first.
    pub fn new(seed: u64) -> Self {
        Self(mixed(seed.wrapping_mul(STEP)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A few of these pieces one after the other, with a random character here and there.
    pub fn text(&mut self, pieces: &[&str]) -> String {
        let mut text = String::new();
        for _ in 0..self.below(10) {
            match self.below(8) {
                0 => text.extend(char::from_u32(self.below(0x300) as u32)),
                1 => text.push_str(&self.next().to_string()),
                _ => text.push_str(self.pick::<&str>(pieces)),
            }
        }
        text
    }

    /// The bytes with some of them changed, missing, doubled or from elsewhere in them.
    pub fn mutated(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            let length = 1 + self.below(16.min(bytes.len() - at));
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = *self.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                2 => drop(bytes.drain(at..at + length)),
                3 => bytes.truncate(at),
                4 => {
                    let from = self.below(bytes.len() - length + 1);
                    bytes.copy_within(from..from + length, at);
                }
                _ => {
                    let piece = self.bytes(length);
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }

    /// Sends all of it in some pieces, as long as anybody listens.
    pub fn in_pieces(&mut self, mut to: impl Write, mut data: &[u8]) {
        while !data.is_empty() {
            let (piece, rest) = data.split_at(1 + self.below(data.len()));
            if to.write_all(piece).is_err() {
                return;
            }
            data = rest;
        }
    }
}

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
