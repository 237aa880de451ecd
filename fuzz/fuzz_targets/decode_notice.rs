//! See `kanjo_fuzz::decode_notice`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::decode_notice(data));
