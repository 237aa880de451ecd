//! Keyed BLAKE3 over many equal-sized inputs at once: one input a vector lane.
//!
//! The results equal `blake3::keyed_hash` of each input; the tests say so. Both sizes hashed here
//! fit one BLAKE3 chunk (1,024 bytes), so a hash is one or two compressions with the flags below,
//! and sixteen of them run side by side on AVX-512 (eight on AVX2, four on NEON, one on plain
//! wasm32).

use blake3::IncrementCounter;
use blake3::platform::{Platform, words_from_le_bytes_32};
use std::sync::LazyLock;

/// Bytes of a leaf.
pub(crate) const LEAF_BYTES: usize = 128;
/// Bytes of an inner node: two digests.
pub(crate) const NODE_BYTES: usize = 64;
/// How many inputs callers gather for one call: enough that partly filled lanes at the end don't
/// matter.
pub(crate) const BATCH: usize = 128;

// Every input is a single chunk of whole blocks.
const _: () = assert!(LEAF_BYTES <= blake3::CHUNK_LEN && LEAF_BYTES.is_multiple_of(64));
const _: () = assert!(NODE_BYTES == blake3::BLOCK_LEN);

const LEAF_CONTEXT: &str = "kanjo 2026 state leaf v1";
const NODE_CONTEXT: &str = "kanjo 2026 state node v1";

// Flags of the BLAKE3 specification, §2.2.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const ROOT: u8 = 8;
const KEYED_HASH: u8 = 16;

struct Key {
    bytes: [u8; 32],
    words: [u32; 8],
}

impl Key {
    fn derive(context: &str) -> Self {
        let bytes = blake3::derive_key(context, &[]);
        Self { bytes, words: words_from_le_bytes_32(&bytes) }
    }
}

static LEAF_KEY: LazyLock<Key> = LazyLock::new(|| Key::derive(LEAF_CONTEXT));
static NODE_KEY: LazyLock<Key> = LazyLock::new(|| Key::derive(NODE_CONTEXT));

fn hash_many<const N: usize>(key: &Key, inputs: &[&[u8; N]], out: &mut [[u8; 32]]) {
    assert!(out.len() >= inputs.len(), "one digest for every input");
    Platform::detect().hash_many(
        inputs,
        &key.words,
        0,
        IncrementCounter::No,
        KEYED_HASH,
        CHUNK_START,
        CHUNK_END | ROOT,
        out.as_flattened_mut(),
    );
}

/// Digests of many leaves.
pub(crate) fn hash_leaves(inputs: &[&[u8; LEAF_BYTES]], out: &mut [[u8; 32]]) {
    hash_many(&LEAF_KEY, inputs, out);
}

/// Digests of many inner nodes.
pub(crate) fn hash_nodes(inputs: &[&[u8; NODE_BYTES]], out: &mut [[u8; 32]]) {
    hash_many(&NODE_KEY, inputs, out);
}

/// Digest of one leaf.
pub(crate) fn hash_leaf(input: &[u8; LEAF_BYTES]) -> [u8; 32] {
    *blake3::keyed_hash(&LEAF_KEY.bytes, input).as_bytes()
}

/// Digest of one inner node.
pub(crate) fn hash_node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    *blake3::keyed_hash(&NODE_KEY.bytes, [*left, *right].as_flattened()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_equal_keyed_hash_for_every_fill() {
        for count in 0..=BATCH {
            let fill = |position: usize, byte: usize| (position * 37 + byte * 11 + count) as u8;
            let leaves: Vec<[u8; LEAF_BYTES]> =
                (0..count).map(|i| std::array::from_fn(|byte| fill(i, byte))).collect();
            let nodes: Vec<[u8; NODE_BYTES]> =
                (0..count).map(|i| std::array::from_fn(|byte| fill(i, byte + 1))).collect();
            let mut out = vec![[0; 32]; count];
            hash_leaves(&leaves.iter().collect::<Vec<_>>(), &mut out);
            for (input, digest) in leaves.iter().zip(&out) {
                assert_eq!(*digest, hash_leaf(input));
            }
            hash_nodes(&nodes.iter().collect::<Vec<_>>(), &mut out);
            for (input, digest) in nodes.iter().zip(&out) {
                let (left, right) = input.split_at(32);
                let [left, right] = [left, right].map(|half| half.try_into().expect("32 bytes"));
                assert_eq!(*digest, hash_node(&left, &right));
            }
        }
    }

    #[test]
    fn keys_are_the_published_ones() {
        let leaf_key = "6c0752a3cc730212d919b70001ea9cd4db24587870955f8213cb24b7308cffe4";
        let node_key = "82dd128c81c88beb8cc1447b154aa5048fd0dc43e0defd844c1552c7f1fc960a";
        assert_eq!(hex::encode(LEAF_KEY.bytes), leaf_key);
        assert_eq!(hex::encode(NODE_KEY.bytes), node_key);
    }
}
