//! See `kanjo_fuzz::verify_signatures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::verify_signatures(data));
