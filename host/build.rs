//! Builds the `echo` plugin, which the host embeds as its built-in handler, and `upper`, which the benchmark swaps
//! it for.

fn main() -> Result<(), plugsock_build::Error> {
    let components = plugsock_build::packages(&["echo", "upper"])?;
    println!("cargo::rustc-env=PLUGSOCK_ECHO={}", components.join("echo.wasm").display());
    println!("cargo::rustc-env=PLUGSOCK_UPPER={}", components.join("upper.wasm").display());
    Ok(())
}
