//! See `streampay_fuzz::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::wire(bytes));
