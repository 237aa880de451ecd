//! A bounded, deterministic run of every fuzz target: no fuzzer, the same inputs every time.
//!
//! `KANJO_FUZZ_SECONDS=60` goes on for that long, with the inputs that come after the fixed ones.
//!
//! The corpus is the valid encodings in `vectors/` and what a small real ledger gives (`corpus`). A
//! failure prints the target and the input; put the input into `regressions` below when it is
//! mended.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod corpus;

use corpus::{Corpus, corpus, repair};
use kanjo_fuzz::{TARGETS, Target};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Rounds of the fixed run; each has its own seed. A run for some seconds takes as many as fit.
const ROUNDS: u64 = 60;
/// Mutated inputs over all targets in one round.
const ROUND_INPUTS: usize = 30_000;
/// Longest input; mutations that copy stop here.
const BYTES_MAX: usize = 16 * 1_024;

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
        let (length, kind) = (bytes.len(), self.below(12));
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
                // A length that lies: small, large, or one off, in 1, 2, 4 or 8 little-endian
                // bytes.
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
            9 => {
                // A field of another valid input in the same place.
                let range = self.range(length.min(other.len()));
                bytes[range.clone()].copy_from_slice(&other[range]);
            }
            10 => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
            _ => {
                let piece = bytes[self.range(length)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        bytes.truncate(BYTES_MAX);
    }

    /// A mutated input for the target `name`, whose valid ones are `own`.
    fn input(&mut self, name: &str, own: &[&Vec<u8>], corpus: &Corpus) -> Vec<u8> {
        let mut input = own[self.below(own.len())].clone();
        // One in sixteen starts from another target's input.
        if self.below(16) == 0 {
            input.clone_from(&corpus[self.below(corpus.len())].1);
        }
        let other = own[self.below(own.len())];
        for _ in 0..=self.below(4) {
            self.change(&mut input, other);
        }
        if self.below(4) > 0 {
            repair(name, &mut input);
        }
        input
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

/// How often a target gets an input, against the others: what is slow gets fewer.
fn share(name: &str) -> usize {
    match name {
        "verify_signatures" => 1,
        "proof_bytes" | "proof_json" => 20,
        _ => 40,
    }
}

fn wanted_seconds() -> Option<u64> {
    let text = std::env::var("KANJO_FUZZ_SECONDS").ok()?;
    Some(text.parse().expect("KANJO_FUZZ_SECONDS is a whole number of seconds"))
}

/// What a target has had.
#[derive(Default)]
struct Had {
    inputs: usize,
    time: Duration,
}

#[test]
fn mutated_inputs_never_break_a_target() {
    let (corpus, seconds) = (corpus(), wanted_seconds().map(Duration::from_secs));
    let shares: usize = TARGETS.iter().map(|(name, _)| share(name)).sum();
    let mut had: Vec<Had> = TARGETS.iter().map(|_| Had::default()).collect();
    let started = Instant::now();
    for seed in 1.. {
        let over = seconds.map_or(seed > ROUNDS, |seconds| started.elapsed() >= seconds);
        if over {
            break;
        }
        let mut mutator = Mutator { random: ChaCha8Rng::seed_from_u64(seed) };
        for ((name, target), had) in TARGETS.iter().zip(&mut had) {
            let own: Vec<&Vec<u8>> =
                corpus.iter().filter(|(of, _)| of == name).map(|(_, bytes)| bytes).collect();
            assert!(!own.is_empty(), "no corpus for {name}");
            let (inputs, started) = (ROUND_INPUTS * share(name) / shares, Instant::now());
            for _ in 0..inputs {
                run(name, *target, &mutator.input(name, &own, &corpus));
            }
            had.inputs += inputs;
            had.time += started.elapsed();
        }
    }
    for ((name, _), had) in TARGETS.iter().zip(&had) {
        println!("{name:26} {:>10} inputs {:>7} ms", had.inputs, had.time.as_millis());
    }
    let inputs: usize = had.iter().map(|had| had.inputs).sum();
    println!("{:26} {inputs:>10} inputs {:>7} ms", "all", started.elapsed().as_millis());
}

/// Otherwise the comparison of what checks with what is true would compare nothing.
#[test]
fn some_changed_proofs_still_check() {
    let corpus = corpus();
    let of_target = corpus.iter().filter(|(of, _)| *of == "proof_bytes");
    let own: Vec<&Vec<u8>> = of_target.map(|(_, bytes)| bytes).collect();
    let mut mutator = Mutator { random: ChaCha8Rng::seed_from_u64(0) };
    let genesis = &kanjo_fuzz::sample::sample().genesis;
    let inputs = (0..10_000).map(|_| mutator.input("proof_bytes", &own, &corpus));
    let changed = inputs.filter(|input| !own.contains(&input));
    let checked = changed.filter(|input| kanjo_proof::check_bytes(input, genesis).is_ok()).count();
    println!("{checked} of 10,000 changed proofs check");
    assert!(checked > 20, "{checked}");
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
