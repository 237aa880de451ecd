//! See `kanjo_fuzz::decode_block_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::decode_block_head(data));
