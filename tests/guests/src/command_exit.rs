//! An ordinary program that exits with the status that it reads, after an answer.

use std::io::stdin;

fn main() {
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    let status = line.trim().parse().unwrap();
    println!("exiting with {status}");
    std::process::exit(status);
}
