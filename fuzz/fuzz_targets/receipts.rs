//! See `streampay_fuzz::receipts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| streampay_fuzz::receipts(bytes));
