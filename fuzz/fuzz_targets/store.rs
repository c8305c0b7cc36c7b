//! See `streampay_fuzz::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::store(bytes));
