//! See `kanjo_fuzz::ids_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::ids_text(data));
