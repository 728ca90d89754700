//! Links a handler with a small stack: then an instance's stack, data and heap lie in the few pages of memory that the
//! host keeps from instance to instance, and not above an untouched megabyte. A handler that recurses deeply needs more.

fn main() {
    println!("cargo::rerun-if-env-changed=CARGO_CFG_TARGET_FAMILY");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").as_deref() == Ok("wasm") {
        println!("cargo::rustc-link-arg=-zstack-size=32768");
    }
}
