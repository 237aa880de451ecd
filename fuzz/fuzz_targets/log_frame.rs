//! See `kanjo_fuzz::log_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::log_frame(data));
