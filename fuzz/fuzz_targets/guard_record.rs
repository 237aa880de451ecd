//! See `kanjo_fuzz::guard_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::guard_record(data));
