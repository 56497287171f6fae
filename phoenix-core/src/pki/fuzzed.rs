//! Replays the inputs that the fuzzer keeps. Both the tests of this crate and those of the lab do.

use std::panic::catch_unwind;
use std::path::Path;

/// Holds every case of `target` against its property. `make fuzz` leaves what it finds here.
pub(super) fn replay(target: &str, property: fn(&[u8])) {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/cases")
        .join(target);
    let (mut replayed, mut broken) = (0, Vec::new());
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
