//! Builds all that the tests serve: the plugins, and the guests that misbehave.

const PLUGINS: [&str; 11] = [
    "chargen",
    "daytime",
    "discard",
    "dns",
    "echo",
    "finger",
    "qotd",
    "syslog",
    "thread-echo",
    "time",
    "upper",
];

fn main() -> Result<(), plugsock_build::Error> {
    println!("cargo::rustc-env=PLUGINS={}", plugsock_build::packages(&PLUGINS)?.display());
    println!("cargo::rustc-env=GUESTS={}", plugsock_build::examples("guests")?.display());
    Ok(())
}
