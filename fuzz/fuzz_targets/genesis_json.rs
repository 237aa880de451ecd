//! See `kanjo_fuzz::genesis_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::genesis_json(data));
