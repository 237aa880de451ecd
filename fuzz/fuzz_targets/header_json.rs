//! See `kanjo_fuzz::header_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::header_json(data));
