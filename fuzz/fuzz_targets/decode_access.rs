//! See `kanjo_fuzz::decode_access`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::decode_access(data));
