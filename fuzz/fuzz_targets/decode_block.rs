//! See `kanjo_fuzz::decode_block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::decode_block(data));
