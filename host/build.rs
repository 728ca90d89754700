//! Builds the `echo` plugin, which the host embeds as its built-in handler.

fn main() -> Result<(), plugsock_build::Error> {
    let components = plugsock_build::packages(&["echo"])?;
    println!("cargo::rustc-env=PLUGSOCK_ECHO={}", components.join("echo.wasm").display());
    Ok(())
}
