//! A bounded, deterministic run of every fuzz target: no fuzzer, the same inputs every time.
//!
//! The corpus is the valid encodings in `vectors/`. A failure prints the target and the input; put the input
//! into `regressions` below when it is mended.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use kanjo_fuzz::{TARGETS, Target};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{Amount, Hash, PublicKey};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Mutated inputs over all targets.
const INPUTS: usize = 200_000;
/// Longest input; mutations that copy stop here.
const BYTES_MAX: usize = 16 * 1_024;

const ENCODINGS: &str = include_str!("../../../vectors/encoding.json");
const BLOCKS: &str = include_str!("../../../vectors/blocks.json");
const ZIP215: &str = include_str!("../../../vectors/zip215.json");

fn parse(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("vectors are JSON")
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hex")
}

/// Valid inputs, each with the target it is meant for.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut corpus = Vec::new();
    for vector in parse(ENCODINGS) {
        let json = vector["json"].to_string().into_bytes();
        let (binary, text) = match vector["type"].as_str().expect("type") {
            "SignedTransaction" => ("decode_signed_transaction", "transaction_json"),
            "Record" => ("decode_record", "record_json"),
            "Header" => ("decode_header", "header_json"),
            "Genesis" => ("decode_genesis", "genesis_json"),
            "Receipt" => ("decode_receipt", ""),
            "Certificate" => ("decode_certificate", ""),
            "Access" => ("decode_access", ""),
            _ => continue,
        };
        corpus.push((binary, unhex(&vector["bytes"])));
        if !text.is_empty() {
            corpus.push((text, json));
        }
        for derived in vector["derived"].as_object().into_iter().flat_map(|map| map.values()) {
            corpus.push(("ids_text", derived.as_str().expect("text").as_bytes().to_vec()));
        }
    }
    for block in parse(BLOCKS) {
        corpus.push(("decode_block", unhex(&block["bytes"])));
        corpus.push(("decode_block_head", unhex(&block["bytes"])));
    }
    typed_texts(&mut corpus);
    signatures(&mut corpus);
    corpus
}

fn typed_texts(corpus: &mut Vec<(&'static str, Vec<u8>)>) {
    for (decimals, text) in [(2u8, "12.50"), (0, "1250"), (30, "0.000000000000000000000000000001")]
    {
        corpus.push(("amount_text", [&[decimals], text.as_bytes()].concat()));
    }
    corpus.push(("amount_text", [&[0], Amount(u128::MAX).to_string().as_bytes()].concat()));
    for kind in [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1] {
        let key = SecretKey::from_seed(kind, [1; 32]).expect("valid seed").public();
        corpus.push(("keys_text", key.to_string().into_bytes()));
    }
    for value in [0u128, 127, 128, 1 << 32, u128::MAX] {
        let bytes = kanjo_types::codec::to_bytes(&kanjo_types::codec::Compact(value));
        corpus.push(("decode_compact", bytes));
    }
}

fn signatures(corpus: &mut Vec<(&'static str, Vec<u8>)>) {
    let item = |kind: u8, key: &[u8], digest: &[u8], signature: &[u8]| {
        let mut key = key.to_vec();
        key.resize(33, 0);
        [&[kind], key.as_slice(), digest, signature].concat()
    };
    let vectors = parse(ZIP215);
    for group in vectors.chunks(60) {
        let items = group.iter().step_by(5).map(|vector| {
            let (key, digest) = (unhex(&vector["key"]), unhex(&vector["digest"]));
            item(0, &key, &digest, &unhex(&vector["signature"]))
        });
        corpus.push(("verify_signatures", items.collect::<Vec<_>>().concat()));
    }
    let digest = Hash([7; 32]);
    let mixed = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1].map(|kind| {
        let secret = SecretKey::from_seed(kind, [2; 32]).expect("valid seed");
        let signature = secret.sign(&digest);
        match secret.public() {
            PublicKey::Ed25519(key) => item(0, &key, &digest.0, &signature),
            PublicKey::P256(key) => item(1, &key, &digest.0, &signature),
            PublicKey::Secp256k1(key) => item(2, &key, &digest.0, &signature),
        }
    });
    corpus.push(("verify_signatures", mixed.concat()));
}

// ---- The mutator ----

struct Mutator {
    random: ChaCha8Rng,
}

impl Mutator {
    fn below(&mut self, bound: usize) -> usize {
        let draw = self.random.next_u64() % u64::try_from(bound.max(1)).expect("small");
        usize::try_from(draw).expect("small")
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(64) + 1)
    }

    /// One change of one kind.
    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let (length, kind) = (bytes.len(), self.below(10));
        if length == 0 {
            bytes.extend_from_slice(&other[..other.len().min(64)]);
            return;
        }
        let at = self.below(length);
        match kind {
            0..3 => bytes[at] ^= 1 << self.below(8),
            3 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][self.below(6)],
            4 => bytes[at] = bytes[at].wrapping_add(if self.below(2) == 0 { 1 } else { 0xff }),
            5 => bytes.truncate(at),
            6 => {
                // A length that lies: small, large, or one off, in 1, 2, 4 or 8 little-endian bytes.
                let value = [0, 1, 0x7f, 0xffff, 0x7fff_ffff, u64::MAX, self.random.next_u64()];
                let value = value[self.below(7)].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                bytes.iter_mut().skip(at).zip(&value[..width]).for_each(|(to, from)| *to = *from);
            }
            7 => {
                let gone = self.range(length);
                bytes.drain(gone);
            }
            8 => {
                let piece = self.range(other.len());
                bytes.splice(at..at, other[piece].iter().copied());
            }
            _ => {
                let piece = bytes[self.range(length)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        bytes.truncate(BYTES_MAX);
    }
}

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this name").1
}

fn run(name: &str, target: Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        panic!("target {name} fails on {}", hex::encode(input));
    }
}

#[test]
fn mutated_inputs_never_break_a_target() {
    let corpus = corpus();
    let mut mutator = Mutator { random: ChaCha8Rng::seed_from_u64(1) };
    let mut times: Vec<Duration> = vec![Duration::ZERO; TARGETS.len()];
    // Signatures cost a hundred times as much as anything else.
    let share = |name: &str| if name == "verify_signatures" { 1 } else { 40 };
    let shares: usize = TARGETS.iter().map(|(name, _)| share(name)).sum();
    for (at, (name, target)) in TARGETS.iter().enumerate() {
        let own: Vec<&Vec<u8>> =
            corpus.iter().filter(|(of, _)| of == name).map(|(_, bytes)| bytes).collect();
        assert!(!own.is_empty(), "no corpus for {name}");
        let started = Instant::now();
        for _ in 0..INPUTS * share(name) / shares {
            let mut input = own[mutator.below(own.len())].clone();
            // One in sixteen starts from another target's input.
            if mutator.below(16) == 0 {
                input.clone_from(&corpus[mutator.below(corpus.len())].1);
            }
            let other = own[mutator.below(own.len())];
            for _ in 0..=mutator.below(4) {
                mutator.change(&mut input, other);
            }
            run(name, *target, &input);
        }
        times[at] = started.elapsed();
    }
    for ((name, _), time) in TARGETS.iter().zip(times) {
        println!("{name}: {} ms", time.as_millis());
    }
}

#[test]
fn valid_inputs_pass_their_own_target_and_every_other() {
    let corpus = corpus();
    for (_, input) in &corpus {
        for (name, target) in TARGETS.iter().filter(|(name, _)| *name != "verify_signatures") {
            run(name, *target, input);
        }
    }
    for (name, input) in &corpus {
        run(name, target(name), input);
    }
}

#[test]
fn short_inputs_never_break_a_target() {
    for (name, target) in TARGETS {
        run(name, *target, &[]);
        for byte in 0..=255u8 {
            run(name, *target, &[byte]);
            run(name, *target, &[byte; 5]);
        }
    }
}

#[test]
fn inputs_that_once_failed_stay_mended() {
    // (target, input in hexadecimal)
    let regressions: &[(&str, &str)] = &[
        // A wallet id with a right checksum over non-zero padding bits.
        ("ids_text", "6b6a77317175727377706338717572737770633871757273777063387161686137797a30"),
    ];
    for (name, input) in regressions {
        run(name, target(name), &hex::decode(input).expect("hex"));
    }
}

#[test]
fn every_target_has_its_libfuzzer_file_and_every_file_a_target() {
    let fuzz = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
    // A copy of the workspace without the libFuzzer crate has nothing to compare.
    let Ok(manifest) = std::fs::read_to_string(format!("{fuzz}/Cargo.toml")) else { return };
    assert!(TARGETS.is_sorted_by(|(a, _), (b, _)| a < b), "in alphabetical order, each once");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "no [[bin]] for {name}");
        let file = format!("{fuzz}/fuzz_targets/{name}.rs");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(text.contains(&format!("kanjo_fuzz::{name}(")), "{name}.rs");
    }
    let files = std::fs::read_dir(format!("{fuzz}/fuzz_targets")).expect("fuzz_targets");
    assert_eq!(files.count(), TARGETS.len());
}
