//! See `kanjo_fuzz::keys_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::keys_text(data));
