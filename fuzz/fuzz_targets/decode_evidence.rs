//! See `kanjo_fuzz::decode_evidence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::decode_evidence(data));
