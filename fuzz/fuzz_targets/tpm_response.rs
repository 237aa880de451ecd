//! See `kanjo_fuzz::tpm_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kanjo_fuzz::tpm_response(data));
