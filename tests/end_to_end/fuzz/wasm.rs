//! Generates WebAssembly that is valid and that nobody would write: nested expressions of every type, with
//! memory, tables, loops and calls.

use super::random::Random;
use crate::harness::wasm::{section, sized, unsigned};

/// `i32`, `i64`, `f32` and `f64`, as they are encoded; a function's parameters are a local of each.
const TYPES: [Type; 4] = [
    Type {
        code: 0x7f,
        constant: 0x41,
        load: 0x28,
        unary: (0x67, 3),
        binary: (0x6a, 15),
        relation: (0x46, 10),
    },
    Type {
        code: 0x7e,
        constant: 0x42,
        load: 0x29,
        unary: (0x79, 3),
        binary: (0x7c, 15),
        relation: (0x51, 10),
    },
    Type { code: 0x7d, constant: 0x43, load: 0x2a, unary: (0x8b, 7), binary: (0x92, 7), relation: (0x5b, 6) },
    Type { code: 0x7c, constant: 0x44, load: 0x2b, unary: (0x99, 7), binary: (0xa0, 7), relation: (0x61, 6) },
];

const I32: usize = 0;

/// An operator is its first instruction and how many there are.
struct Type {
    code: u8,
    constant: u8,
    load: u8,
    unary: (u8, usize),
    binary: (u8, usize),
    /// Leaves an `i32`.
    relation: (u8, usize),
}

/// Conversions: the type that one leaves, the type that it takes, and its instruction.
const CONVERSIONS: [(usize, usize, u8); 16] = [
    (0, 1, 0xa7),
    (0, 2, 0xa8),
    (0, 3, 0xab),
    (0, 2, 0xbc),
    (1, 0, 0xac),
    (1, 0, 0xad),
    (1, 3, 0xb0),
    (1, 3, 0xbd),
    (2, 0, 0xb2),
    (2, 1, 0xb5),
    (2, 3, 0xb6),
    (2, 0, 0xbe),
    (3, 0, 0xb8),
    (3, 1, 0xb9),
    (3, 2, 0xbb),
    (3, 1, 0xbf),
];

/// How deeply expressions are nested.
const DEPTH: usize = 6;

/// The functions: 0 is imported; three are generated; the last is what the component calls.
const GENERATED: u8 = 3;

/// A module with the imports and exports that the component `generated` expects of its own.
pub fn module(random: &mut Random) -> Vec<u8> {
    // (i32), (i32) -> i32, and what the generated ones have: a parameter of each type, and an i32.
    let types =
        [&[3, 0x60, 1, 0x7f, 0, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 4][..], &TYPES.map(|t| t.code), &[1, 0x7f]];
    let imports = b"\x01\x04host\x04drop\0\0";
    let functions = [GENERATED + 1, 2, 2, 2, 1];
    let tables = [1, 0x70, 0, 3 + random.below(10) as u8];
    let memories = [1, 0, 1 + random.below(4) as u8];
    // What loops are paid with.
    let globals = [&[1, 0x7f, 1, 0x41][..], &signed(10_000), &[0x0b]].concat();
    let exports = b"\x02\x06memory\x02\0\x05phase\0\x04";
    let elements = [1, 0, 0x41, 0, 0x0b, 3, 1, 2, 3];
    let mut code = vec![GENERATED + 1];
    for _ in 0..GENERATED {
        let mut body = Body { random: &mut *random, code: vec![0] };
        for _ in 0..body.random.below(4) {
            body.statement(DEPTH);
        }
        body.expression(I32, DEPTH);
        body.code.push(0x0b);
        code.extend(sized(&body.code));
    }
    code.extend(sized(&phase(random)));
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &types.concat()),
        section(2, imports),
        section(3, &functions),
        section(4, &tables),
        section(5, &memories),
        section(6, &globals),
        section(7, exports),
        section(9, &elements),
        section(10, &code),
    ]
    .concat()
}

/// Drops the request, calls the last of the generated functions, and returns the result `ok` at address 0.
fn phase(random: &mut Random) -> Vec<u8> {
    let mut body = Body { random, code: vec![0, 0x20, 0, 0x10, 0] };
    (0..TYPES.len()).for_each(|kind| body.constant(kind));
    // Its result is dropped; store 0 at 0, and leave 0.
    body.code.extend([0x10, GENERATED, 0x1a, 0x41, 0, 0x41, 0, 0x36, 2, 0, 0x41, 0, 0x0b]);
    body.code
}

struct Body<'a> {
    random: &'a mut Random,
    code: Vec<u8>,
}

impl Body<'_> {
    fn put(&mut self, code: &[u8]) {
        self.code.extend_from_slice(code);
    }

    fn one_of(&mut self, (first, count): (u8, usize)) {
        let code = first + self.random.below(count) as u8;
        self.code.push(code);
    }

    fn constant(&mut self, kind: usize) {
        self.code.push(TYPES[kind].constant);
        let value = self.random.next() as i64 >> self.random.below(64);
        match kind {
            0 => self.put(&signed(i64::from(value as i32))),
            1 => self.put(&signed(value)),
            2 => self.put(&(value as u32).to_le_bytes()),
            _ => self.put(&value.to_le_bytes()),
        }
    }

    /// Leaves one value of this type.
    fn expression(&mut self, kind: usize, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else {
            return match self.random.below(2) {
                0 => self.constant(kind),
                _ => self.put(&[0x20, kind as u8]),
            };
        };
        match self.random.below(11) {
            0 => self.constant(kind),
            1 => self.put(&[0x20, kind as u8]),
            2 => {
                self.expression(kind, depth);
                self.put(&[0x22, kind as u8]);
            }
            3 => {
                self.expression(I32, depth);
                let offset = unsigned(self.random.below(1 << 17));
                self.put(&[TYPES[kind].load, 0]);
                self.put(&offset);
            }
            4 => {
                self.expression(I32, depth);
                self.put(&[0x04, TYPES[kind].code]);
                self.expression(kind, depth);
                self.put(&[0x05]);
                self.expression(kind, depth);
                self.put(&[0x0b]);
            }
            5 => {
                self.expression(kind, depth);
                self.expression(kind, depth);
                self.expression(I32, depth);
                self.put(&[0x1b]);
            }
            6 => {
                self.put(&[0x02, TYPES[kind].code]);
                self.statement(depth);
                self.expression(kind, depth);
                self.put(&[0x0b]);
            }
            7 if kind == I32 => self.call(depth),
            7 => {
                let to_this = CONVERSIONS.iter().filter(|(to, ..)| *to == kind);
                let &(_, from, code) = *self.random.pick(&to_this.collect::<Vec<_>>());
                self.expression(from, depth);
                self.put(&[code]);
            }
            8 if kind == I32 => {
                let of = self.random.below(TYPES.len());
                self.expression(of, depth);
                self.expression(of, depth);
                self.one_of(TYPES[of].relation);
            }
            8 | 9 => {
                self.expression(kind, depth);
                self.one_of(TYPES[kind].unary);
            }
            _ => {
                self.expression(kind, depth);
                self.expression(kind, depth);
                self.one_of(TYPES[kind].binary);
            }
        }
    }

    /// Leaves an `i32`: of a generated function, by its number or by the table, or of growing something.
    fn call(&mut self, depth: usize) {
        match self.random.below(4) {
            0 => self.put(&[0x41, 1, 0x40, 0]),
            1 => self.put(&[0xd0, 0x70, 0x41, 10, 0xfc, 0x0f, 0]),
            by => {
                (0..TYPES.len()).for_each(|kind| self.expression(kind, depth / 2));
                if by == 2 {
                    self.expression(I32, depth / 2);
                    self.put(&[0x11, 2, 0]);
                } else {
                    self.put(&[0x10]);
                    self.one_of((1, usize::from(GENERATED)));
                }
            }
        }
    }

    /// Leaves nothing.
    fn statement(&mut self, depth: usize) {
        let kind = self.random.below(TYPES.len());
        let below = depth.saturating_sub(1);
        match self.random.below(5) {
            0 => {
                self.expression(kind, below);
                self.put(&[0x21, kind as u8]);
            }
            1 => {
                self.expression(I32, below);
                self.expression(kind, below);
                // Its store is as far from the first as its load.
                self.put(&[TYPES[kind].load - 0x28 + 0x36, 0, 0]);
            }
            2 if depth > 0 => {
                self.put(&[0x03, 0x40]);
                self.statement(below);
                // Again if what is left of the global, less one, is above zero.
                self.put(&[0x23, 0, 0x41, 1, 0x6b, 0x24, 0, 0x23, 0, 0x41, 0, 0x4a, 0x0d, 0, 0x0b]);
            }
            3 => {
                (0..3).for_each(|_| self.expression(I32, below / 2));
                let fill_or_copy: &[u8] =
                    if self.random.below(2) == 0 { &[0xfc, 0x0b, 0] } else { &[0xfc, 0x0a, 0, 0] };
                self.put(fill_or_copy);
            }
            _ => {
                self.expression(kind, below);
                self.put(&[0x1a]);
            }
        }
    }
}

/// LEB128 with a sign.
fn signed(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}
