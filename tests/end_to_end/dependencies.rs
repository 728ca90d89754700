//! What the host is built of: nothing from where it could change under us, and nothing that its users may not
//! pass on.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::run;

const LICENCES: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Zlib",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

/// Whether one of the alternatives of a licence expression has nothing but licences of these.
fn is_permitted(expression: &str) -> bool {
    let is_known = |licence: &str| LICENCES.contains(&licence.trim_matches(['(', ')', ' ']));
    // A conjunction of alternatives, as in `(MIT OR Apache-2.0) AND Unicode-3.0`, or alternatives.
    let alternatives = |text: &str| text.replace('/', " OR ").split(" OR ").any(is_known);
    expression.split(" AND ").all(alternatives)
        || expression.split(" OR ").any(|text| text.split(" AND ").all(is_known))
}

#[test]
fn dependencies_come_from_a_registry_and_have_permissive_licences() {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"]);
    metadata.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    metadata.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    let ended = run(&mut metadata);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let metadata: Value = serde_json::from_str(&ended.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let others = packages.iter().filter(|package| !package["source"].is_null());
    let mut count = 0;
    for package in others {
        let name = &package["name"];
        let source = package["source"].as_str().unwrap();
        assert!(source.starts_with("registry+"), "{name} comes from {source}");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(is_permitted(licence), "{name} has the licence {licence}");
        count += 1;
    }
    assert!(count > 100, "only {count} dependencies");
}
