//! Fuzz entry points: what Kanjo reads from outside never panics, and what it accepts has one form.
//!
//! Each function takes any bytes and asserts two properties: the reader returns (a value or an
//! error, never a panic), and a value that was read writes the same bytes again. They need no
//! fuzzer: `tests/bounded.rs` runs all of [`TARGETS`] on mutated valid encodings, `fuzz/` gives
//! each to libFuzzer.
//!
//! # Adding a target
//! 1. Write a `pub fn name(data: &[u8])` in a module of this crate.
//! 2. Add `("name", name)` to [`TARGETS`], in alphabetical order.
//! 3. Copy a file in `fuzz/fuzz_targets/` under the new name, and add its `[[bin]]` to
//!    `fuzz/Cargo.toml`.
//!
//! 4. Put valid inputs for it into `tests/corpus/mod.rs`.
//!
//! A test fails when these disagree.
#![forbid(unsafe_code)]

pub mod api;
pub mod binary;
pub mod links;
pub mod proofs;
pub mod sample;
pub mod sentinel;
pub mod signatures;
pub mod storage;
pub mod text;

pub use api::{http_frames, submit_answer};
pub use binary::{
    decode_access, decode_block, decode_block_head, decode_certificate, decode_compact,
    decode_evidence, decode_genesis, decode_header, decode_notice, decode_receipt, decode_record,
    decode_signed_transaction,
};
pub use links::{link_item, link_stream};
pub use proofs::{proof_bytes, proof_json};
pub use sentinel::{guard_record, sentinel_claims, sentinel_message, tpm_response};
pub use signatures::verify_signatures;
pub use storage::{checkpoint, log_frame, partition_snapshot, slot_file};
pub use text::{
    amount_text, genesis_json, header_json, ids_text, keys_text, record_json, transaction_json,
};

/// A fuzz entry point.
pub type Target = fn(&[u8]);

/// Every entry point by name. Names are the file names in `fuzz/fuzz_targets/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("amount_text", amount_text),
    ("checkpoint", checkpoint),
    ("decode_access", decode_access),
    ("decode_block", decode_block),
    ("decode_block_head", decode_block_head),
    ("decode_certificate", decode_certificate),
    ("decode_compact", decode_compact),
    ("decode_evidence", decode_evidence),
    ("decode_genesis", decode_genesis),
    ("decode_header", decode_header),
    ("decode_notice", decode_notice),
    ("decode_receipt", decode_receipt),
    ("decode_record", decode_record),
    ("decode_signed_transaction", decode_signed_transaction),
    ("genesis_json", genesis_json),
    ("guard_record", guard_record),
    ("header_json", header_json),
    ("http_frames", http_frames),
    ("ids_text", ids_text),
    ("keys_text", keys_text),
    ("link_item", link_item),
    ("link_stream", link_stream),
    ("log_frame", log_frame),
    ("partition_snapshot", partition_snapshot),
    ("proof_bytes", proof_bytes),
    ("proof_json", proof_json),
    ("record_json", record_json),
    ("sentinel_claims", sentinel_claims),
    ("sentinel_message", sentinel_message),
    ("slot_file", slot_file),
    ("submit_answer", submit_answer),
    ("tpm_response", tpm_response),
    ("transaction_json", transaction_json),
    ("verify_signatures", verify_signatures),
];
