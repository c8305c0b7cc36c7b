//! See `streampay_fuzz::resume`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::resume(bytes));
