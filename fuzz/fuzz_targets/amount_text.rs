//! See `kanjo_fuzz::amount_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::amount_text(data));
