//! See `streampay_fuzz::terms`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::terms(bytes));
