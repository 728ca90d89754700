//! An ordinary program that writes until it cannot, and says in its log why.

use std::io::{Write, stdout};

fn main() {
    let error = std::iter::repeat_with(|| stdout().write_all(&[b'x'; 10_000])).find_map(Result::err);
    let error = error.expect("it goes on until there is one");
    eprintln!("cannot write: {:?}", error.kind());
    std::process::exit(7);
}
