//! An ordinary program that asks and waits for the answer, and says in its log what it heard.

use std::io::{Result, Write, stdin, stdout};

fn main() -> Result<()> {
    for question in ["name? ", "home? "] {
        print!("{question}");
        stdout().flush()?;
        let mut answer = String::new();
        stdin().read_line(&mut answer)?;
        eprint!("heard {answer}");
    }
    println!("bye");
    Ok(())
}
