//! See `kanjo_fuzz::record_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::record_json(data));
