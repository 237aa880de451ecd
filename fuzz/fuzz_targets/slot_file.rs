//! See `kanjo_fuzz::slot_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::slot_file(data));
