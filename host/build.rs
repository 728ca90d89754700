//! Builds the `echo` plugin, which the host embeds as its built-in handler, and what the benchmark serves besides:
//! `upper`, which it swaps it for, and `counter`.

fn main() -> Result<(), plugsock_build::Error> {
    let components = plugsock_build::packages(&["counter", "echo", "upper"])?;
    println!("cargo::rustc-env=PLUGSOCK_ECHO={}", components.join("echo.wasm").display());
    println!("cargo::rustc-env=PLUGSOCK_COUNTER={}", components.join("counter.wasm").display());
    println!("cargo::rustc-env=PLUGSOCK_UPPER={}", components.join("upper.wasm").display());
    Ok(())
}
