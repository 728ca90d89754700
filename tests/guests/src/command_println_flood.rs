//! An ordinary program that prints without an end, as those do that nobody told of clients which leave.

fn main() {
    loop {
        println!("{}", "x".repeat(1000));
    }
}
