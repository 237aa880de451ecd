//! See `kanjo_fuzz::submit_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::submit_answer(data));
