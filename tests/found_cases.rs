//! Inputs that once broke a parser, or that the fuzzer starts from, hold what it looks for.
//! `make fuzz` leaves what it finds where this looks.

#[path = "fuzz/properties.rs"]
mod properties;

#[path = "../phoenix-core/src/pki/fuzzed.rs"]
mod fuzzed;

use fuzzed::replay;

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
