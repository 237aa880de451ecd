//! See `kanjo_fuzz::sentinel_claims`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::sentinel_claims(data));
