//! See `streampay_fuzz::scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::scan(bytes));
