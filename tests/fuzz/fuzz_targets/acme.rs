#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| phoenix_core::pki::fuzzing::acme(data));
