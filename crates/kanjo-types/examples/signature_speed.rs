//! Speed of signature checks on one core, by kind and batch size: `cargo run --release -p
//! kanjo-types --example signature_speed`. Prints the median of several runs in microseconds of a
//! signature.
#![allow(missing_docs, clippy::expect_used, clippy::float_arithmetic, reason = "an example")]

use kanjo_types::Hash;
use kanjo_types::hash::{TAG_TRANSACTION, digest};
use kanjo_types::signature::{Check, KeyKind, SecretKey, verify, verify_batch};
use std::time::Instant;

const RUNS: usize = 9;

fn checks(kind: KeyKind, count: u32) -> Vec<Check> {
    let one = |number: u32| {
        let Hash(seed) = digest(TAG_TRANSACTION, &[b"seed", &number.to_le_bytes()]);
        let key = SecretKey::from_seed(kind, seed).expect("a key");
        let digest = digest(TAG_TRANSACTION, &[&number.to_le_bytes()]);
        Check { key: key.public(), digest, signature: key.sign(&digest) }
    };
    (0..count).map(one).collect()
}

fn median(count: usize, mut work: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64() * 1e6 / count as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(part).copied().unwrap_or_default();
    (at(RUNS / 2), at(RUNS - 1) - at(0))
}

fn main() {
    for kind in [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1] {
        let checks = checks(kind, 512);
        let (time, spread) = median(checks.len(), || {
            assert!(checks.iter().all(|c| verify(&c.key, &c.digest, &c.signature)));
        });
        println!("{kind:?}, one by one: {time:.1} µs (spread {spread:.1})");
    }
    for count in [64, 128, 256, 512, 1_024, 2_048, 4_096] {
        let checks = checks(KeyKind::Ed25519, count);
        let (time, spread) =
            median(checks.len(), || assert!(verify_batch(&checks).into_iter().all(|good| good)));
        println!("Ed25519, batch of {count}, distinct keys: {time:.1} µs (spread {spread:.1})");
    }
}
