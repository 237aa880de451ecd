//! See `kanjo_fuzz::transaction_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::transaction_json(data));
