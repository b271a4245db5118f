//! Feeds libFuzzer's bytes to `colo_tests::fuzzing::fragments`; the checks are there.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| colo_tests::fuzzing::fragments(data));
