//! An ordinary program that writes its arguments and its environment variables, one a line.

fn main() {
    let mut variables: Vec<String> =
        std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    variables.sort();
    println!("{}\n{}", std::env::args().collect::<Vec<_>>().join(" "), variables.join("\n"));
}
