//! Links the component with a small stack: then an instance's stack, data and heap lie in the one page of
//! memory that the host keeps from instance to instance, and not above an untouched megabyte.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").as_deref() == Ok("wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=32768");
    }
}
