//! See `kanjo_fuzz::link_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::link_stream(data));
