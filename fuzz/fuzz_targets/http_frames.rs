//! See `kanjo_fuzz::http_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::http_frames(data));
