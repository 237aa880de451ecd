//! See `kanjo_fuzz::link_item`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::link_item(data));
