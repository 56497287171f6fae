//! Inputs that once broke a parser, or that the fuzzer starts from, hold what it looks for.
//! `make fuzz` leaves what it finds where this looks.

#[path = "fuzz/properties.rs"]
mod properties;

use std::panic::catch_unwind;
use std::path::Path;

/// Replays every case of a target.
fn replay(target: &str, property: fn(&[u8])) {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/cases")
        .join(target);
    let mut replayed = 0;
    let mut broken = Vec::new();
    for case in std::fs::read_dir(&cases).expect("the target's cases") {
        let path = case.expect("a case").path();
        let input = std::fs::read(&path).expect("its content");
        if catch_unwind(|| property(&input)).is_err() {
            broken.push(path);
        }
        replayed += 1;
    }
    assert!(replayed > 0, "no cases in {}", cases.display());
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn names_hold() {
    replay("san", properties::san);
}

#[test]
fn bundles_hold() {
    replay("bundle", properties::bundle);
}

#[test]
fn certificates_hold() {
    replay("certificate", properties::certificate);
}

#[test]
fn stacks_hold() {
    replay("compose", properties::compose);
}
