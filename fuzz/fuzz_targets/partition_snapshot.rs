//! See `kanjo_fuzz::partition_snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::partition_snapshot(data));
