//! See `streampay_fuzz::channel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::channel(bytes));
