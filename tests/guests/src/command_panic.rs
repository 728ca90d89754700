//! An ordinary program that panics after an answer.

fn main() {
    println!("before");
    panic!("told to");
}
