//! See `kanjo_fuzz::proof_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::proof_bytes(data));
