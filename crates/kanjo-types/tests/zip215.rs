//! Ed25519 under ZIP 215: the cases in which implementations differ, one by one and in batches.
//!
//! A replica that checks a signature alone and one that checks it in a batch must agree on every
//! input, or a crafted signature splits the ledger. `vectors/zip215.json` is remade with
//! `cargo test --release -p kanjo-types --test zip215 -- --ignored remake`.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity};
use kanjo_types::signature::{Check, KeyKind, SecretKey, verify, verify_batch};
use kanjo_types::{Hash, PublicKey, hash};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};
use std::collections::BTreeSet;

/// The order of the prime subgroup, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Vector {
    name: String,
    key: Hash,
    digest: Hash,
    #[serde(with = "hex::serde")]
    signature: [u8; 64],
    accept: bool,
}

impl Vector {
    fn check(&self) -> Check {
        Check {
            key: PublicKey::Ed25519(self.key.0),
            digest: self.digest,
            signature: self.signature,
        }
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(&common::read_vectors("zip215.json")).expect("vectors/zip215.json")
}

// ---- Making the vectors ----

fn digest_of(text: &str) -> Hash {
    hash::digest(hash::TAG_TRANSACTION, &[text.as_bytes()])
}

fn scalar_of(parts: &[&[u8]]) -> Scalar {
    let mut hasher = Sha512::new();
    parts.iter().for_each(|part| hasher.update(part));
    Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

/// The 14 encodings of points of small order: 8 canonical ones and 6 that are not.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut found: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|p| p.compress().to_bytes()).collect();
    // y = 0 … 18 written as p + y, both signs; and y = 1, y = -1 (x = 0) with the sign bit set.
    let minus_one = EIGHT_TORSION[4].compress().to_bytes();
    let mut candidates = vec![[0u8; 32], minus_one];
    candidates[0][0] = 1;
    for low in 0xed..=0xffu8 {
        let mut encoding = [0xff; 32];
        encoding[0] = low;
        encoding[31] = 0x7f;
        candidates.push(encoding);
    }
    for candidate in candidates {
        for sign in [0, 0x80] {
            let mut encoding = candidate;
            encoding[31] |= sign;
            let point = CompressedEdwardsY(encoding).decompress();
            if point.is_some_and(|p| p.is_small_order()) && !found.contains(&encoding) {
                found.push(encoding);
            }
        }
    }
    found
}

/// A signature by secret scalar `a` for the key encoding `key`, with `R = rB + torsion`.
fn sign_as(a: Scalar, key: [u8; 32], torsion: EdwardsPoint, digest: &Hash) -> [u8; 64] {
    let r = scalar_of(&[b"nonce", &a.to_bytes(), &digest.0]);
    let big_r = (BASE * r + torsion).compress().to_bytes();
    let k = scalar_of(&[&big_r, &key, &digest.0]);
    join(big_r, (r + k * a).to_bytes())
}

/// The equation without the cofactor, as `verify_strict` and most libraries check it.
fn holds_without_cofactor(vector: &Vector) -> bool {
    let (r, s) = vector.signature.split_at(32);
    let r: [u8; 32] = r.try_into().expect("32 bytes");
    let s: Option<Scalar> = Scalar::from_canonical_bytes(s.try_into().expect("32 bytes")).into();
    let a = CompressedEdwardsY(vector.key.0).decompress();
    let (Some(s), Some(a)) = (s, a) else { return false };
    let k = scalar_of(&[&r, &vector.key.0, &vector.digest.0]);
    (BASE * s - a * k).compress().to_bytes() == r
}

fn add_little_endian(a: &[u8], b: &[u8; 32]) -> [u8; 32] {
    let mut sum = [0; 32];
    let mut carry = 0u16;
    for ((to, a), b) in sum.iter_mut().zip(a).zip(b) {
        carry += u16::from(*a) + u16::from(*b);
        *to = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert_eq!(carry, 0);
    sum
}

fn small_order_vectors(out: &mut Vec<Vector>) {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    for (i, key) in encodings.iter().enumerate() {
        for (j, r) in encodings.iter().enumerate() {
            out.push(Vector {
                name: format!("small order: A {i}, R {j}, s 0"),
                key: Hash(*key),
                digest: digest_of("Zcash"),
                signature: join(*r, [0; 32]),
                accept: true,
            });
        }
    }
    for (i, key) in encodings.iter().enumerate() {
        let name = format!("small order: A {i}, s is the group order");
        let signature = join(encodings[0], ORDER);
        let digest = digest_of("Zcash");
        out.push(Vector { name, key: Hash(*key), digest, signature, accept: false });
    }
}

fn torsion_vectors(out: &mut Vec<Vector>) {
    let a = scalar_of(&[b"mixed order"]);
    for (i, key_torsion) in EIGHT_TORSION.iter().enumerate() {
        for (j, r_torsion) in EIGHT_TORSION.iter().enumerate() {
            let key = (BASE * a + key_torsion).compress().to_bytes();
            let digest = digest_of(&format!("torsion {i} {j}"));
            let signature = sign_as(a, key, *r_torsion, &digest);
            let mut vector =
                Vector { name: String::new(), key: Hash(key), digest, signature, accept: true };
            let kind =
                if holds_without_cofactor(&vector) { "mixed order" } else { "cofactored only" };
            vector.name = format!("{kind}: A + torsion {i}, R + torsion {j}");
            out.push(vector.clone());
            if i == j {
                vector.name = format!("{kind}: A + torsion {i}, R + torsion {j}, s + 1");
                let s = add_little_endian(&vector.signature[32..], &Scalar::ONE.to_bytes());
                vector.signature[32..].copy_from_slice(&s);
                vector.accept = false;
                out.push(vector);
            }
        }
    }
    // A known R with a key of small order: kA vanishes under the cofactor, so any digest is
    // "signed".
    for (i, torsion) in EIGHT_TORSION.iter().enumerate() {
        let r = scalar_of(&[b"small key"]);
        let signature = join((BASE * r).compress().to_bytes(), r.to_bytes());
        out.push(Vector {
            name: format!("small-order key {i} with an ordinary R and s"),
            key: Hash(torsion.compress().to_bytes()),
            digest: digest_of("anything"),
            signature,
            accept: true,
        });
    }
}

fn honest(seed: u8, text: &str) -> Vector {
    let secret = SecretKey::from_seed(KeyKind::Ed25519, [seed; 32]).expect("any seed");
    let PublicKey::Ed25519(key) = secret.public() else { panic!("an Ed25519 key") };
    let digest = digest_of(text);
    let signature = secret.sign(&digest);
    let name = format!("honest: seed {seed}, {text}");
    Vector { name, key: Hash(key), digest, signature, accept: true }
}

fn flipped(vector: &Vector, bit: usize) -> Vector {
    let mut changed = vector.clone();
    let (byte, mask) = (bit / 8, 1u8 << (bit % 8));
    match byte {
        0..32 => changed.key.0[byte] ^= mask,
        32..64 => changed.digest.0[byte - 32] ^= mask,
        _ => changed.signature[byte - 64] ^= mask,
    }
    changed.name = format!("bit {bit} of key, digest, signature flipped; {}", vector.name);
    changed.accept = false;
    changed
}

fn malformed_vectors(out: &mut Vec<Vector>) {
    for seed in 1..=8u8 {
        let good = honest(seed, "payment");
        let plus_order = add_little_endian(&good.signature[32..], &ORDER);
        let mut malleable = good.clone();
        malleable.name = format!("s + group order; {}", good.name);
        malleable.signature[32..].copy_from_slice(&plus_order);
        malleable.accept = false;
        for bit in (0..128 * 8).skip(usize::from(seed)).step_by(61) {
            out.push(flipped(&good, bit));
        }
        out.extend([good, malleable]);
    }
    let good = honest(9, "payment");
    let no_point = (2..=255u8)
        .map(|y| [[y].as_slice(), &[0; 31]].concat().try_into().expect("32 bytes"))
        .find(|bytes: &[u8; 32]| CompressedEdwardsY(*bytes).decompress().is_none())
        .expect("half of all encodings are no point");
    let mut changed = |name: &str, key: [u8; 32], signature: [u8; 64]| {
        let name = format!("{name}; {}", good.name);
        let digest = good.digest;
        out.push(Vector { name, key: Hash(key), digest, signature, accept: false });
    };
    let s: [u8; 32] = good.signature[32..].try_into().expect("32 bytes");
    let r: [u8; 32] = good.signature[..32].try_into().expect("32 bytes");
    changed("key is no point", no_point, good.signature);
    changed("R is no point", good.key.0, join(no_point, s));
    changed("R is the identity", good.key.0, join(EdwardsPoint::identity().compress().0, s));
    changed("s is zero", good.key.0, join(r, [0; 32]));
    changed("s is 2^256 - 1", good.key.0, join(r, [0xff; 32]));
    changed("all zeros", good.key.0, [0; 64]);
}

fn made() -> Vec<Vector> {
    let mut out = Vec::new();
    small_order_vectors(&mut out);
    torsion_vectors(&mut out);
    malformed_vectors(&mut out);
    out
}

#[test]
#[ignore = "writes vectors/zip215.json"]
fn remake_vectors() {
    common::write_vectors("zip215.json", &made());
}

// ---- Checking them ----

#[test]
fn the_vectors_are_the_ones_this_file_makes() {
    assert_eq!(vectors(), made());
}

#[test]
fn single_verification_gives_the_zip215_answer() {
    let vectors = vectors();
    let small = vectors.iter().filter(|v| v.name.starts_with("small order: A") && v.accept).count();
    assert_eq!(small, 196);
    let cofactored = vectors.iter().filter(|v| v.name.starts_with("cofactored only"));
    assert!(cofactored.clone().filter(|v| v.accept).count() >= 40);
    for vector in cofactored {
        assert!(!holds_without_cofactor(vector), "{}", vector.name);
    }
    for vector in &vectors {
        let check = vector.check();
        let answer = verify(&check.key, &check.digest, &check.signature);
        assert_eq!(answer, vector.accept, "{}", vector.name);
    }
}

#[test]
fn no_flipped_bit_is_accepted_alone_or_in_a_batch() {
    let good = honest(10, "one bit");
    let checks: Vec<Check> = (0..128 * 8).map(|bit| flipped(&good, bit).check()).collect();
    for (bit, check) in checks.iter().enumerate() {
        assert!(!verify(&check.key, &check.digest, &check.signature), "bit {bit}");
    }
    assert!(verify_batch(&checks).iter().all(|answer| !answer));
    // Each among honest ones, where only it may be refused.
    for (bit, check) in checks.iter().enumerate().step_by(13) {
        let mut batch = vec![good.check(); 16];
        batch[bit % 16] = *check;
        let answers = verify_batch(&batch);
        assert!(
            answers.iter().enumerate().all(|(at, good)| *good == (at != bit % 16)),
            "bit {bit}"
        );
    }
}

#[test]
fn signatures_that_are_wrong_alone_but_cancel_in_a_sum_are_refused() {
    // s₁ + 1 and s₂ − 1: with equal coefficients the batch equation would hold.
    let (mut left, mut right) = (honest(11, "left"), honest(12, "right"));
    let s = |v: &Vector| {
        let bytes = v.signature[32..].try_into().expect("32 bytes");
        Option::<Scalar>::from(Scalar::from_canonical_bytes(bytes)).expect("canonical")
    };
    let (more, less) = (s(&left) + Scalar::ONE, s(&right) - Scalar::ONE);
    left.signature[32..].copy_from_slice(&more.to_bytes());
    right.signature[32..].copy_from_slice(&less.to_bytes());
    for size in [2usize, 8, 9, 64] {
        let mut batch: Vec<Check> = (0..size).map(|_| honest(13, "between").check()).collect();
        batch[0] = left.check();
        batch[size - 1] = right.check();
        let answers = verify_batch(&batch);
        let expected: Vec<bool> = (0..size).map(|at| at != 0 && at != size - 1).collect();
        assert_eq!(answers, expected, "batch of {size}");
    }
}

#[test]
fn every_vector_gets_its_answer_in_one_batch_of_all() {
    let vectors = vectors();
    let checks: Vec<Check> = vectors.iter().map(Vector::check).collect();
    for (vector, answer) in vectors.iter().zip(verify_batch(&checks)) {
        assert_eq!(answer, vector.accept, "{}", vector.name);
    }
    assert_eq!(verify_batch(&[]), Vec::<bool>::new());
}

#[test]
fn a_batch_of_accepted_edge_cases_is_accepted_whole() {
    let accepted: Vec<Check> = vectors().iter().filter(|v| v.accept).map(Vector::check).collect();
    assert!(accepted.len() > 260);
    assert!(verify_batch(&accepted).iter().all(|answer| *answer));
}

#[test]
fn small_order_encodings_are_fourteen_and_distinct() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.iter().collect::<BTreeSet<_>>().len(), 14);
    for encoding in encodings {
        let point = CompressedEdwardsY(encoding).decompress().expect("a point");
        assert!(point.mul_by_cofactor().is_identity());
    }
}

fn ecdsa(kind: KeyKind, seed: u8, good: bool) -> (Check, bool) {
    let secret = SecretKey::from_seed(kind, [seed; 32]).expect("valid seed");
    let digest = digest_of("ecdsa");
    let mut signature = secret.sign(&digest);
    if !good {
        signature[40] ^= 1;
    }
    (Check { key: secret.public(), digest, signature }, good)
}

/// Checks and their answers.
type Pool = Vec<(Check, bool)>;

/// What batches are drawn from: every vector, honest ones by few keys, and the two ECDSA kinds.
fn pool() -> Pool {
    let mut pool: Pool = vectors().iter().map(|v| (v.check(), v.accept)).collect();
    for seed in 1..=4u8 {
        pool.push(ecdsa(KeyKind::P256, seed, seed % 2 == 0));
        pool.push(ecdsa(KeyKind::Secp256k1, seed, seed % 2 == 0));
    }
    pool
}

fn honest_pool() -> Pool {
    let text = |n: u8| format!("payment {n}");
    (0..64u8).map(|n| (honest(n % 5 + 20, &text(n)).check(), true)).collect()
}

proptest! {
    #![proptest_config(common::config(192, 215))]

    /// Sizes 1 … 200, any order, from nearly all honest to none.
    #[test]
    fn a_batch_accepts_exactly_what_single_verification_accepts(
        honest_in_100 in prop_oneof![Just(0u32), Just(50), Just(90), Just(99), Just(100)],
        picks in proptest::collection::vec((0u32..100, any::<prop::sample::Index>()), 1..=200),
    ) {
        thread_local! {
            static POOLS: (Pool, Pool) = (pool(), honest_pool());
        }
        let batch: Vec<(Check, bool)> = POOLS.with(|(any, honest)| {
            let draw = |(roll, index): &(u32, prop::sample::Index)| {
                *index.get(if *roll < honest_in_100 { honest } else { any })
            };
            picks.iter().map(draw).collect()
        });
        let checks: Vec<Check> = batch.iter().map(|(check, _)| *check).collect();
        let expected: Vec<bool> = batch.iter().map(|(_, accept)| *accept).collect();
        prop_assert_eq!(&verify_batch(&checks), &expected);
        prop_assert_eq!(verify_batch(&checks), expected, "the same again");
    }

    /// One key signs many times, with wrong ones among them.
    #[test]
    fn a_key_that_appears_many_times_is_answered_place_by_place(
        size in 1usize..=200,
        wrong in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        torsion in 0usize..8,
    ) {
        let a = scalar_of(&[b"busy wallet"]);
        let key = (BASE * a + EIGHT_TORSION[torsion]).compress().to_bytes();
        let wrong: BTreeSet<usize> = wrong.iter().map(|index| index.index(size)).collect();
        let checks: Vec<Check> = (0..size)
            .map(|n| {
                let digest = digest_of(&format!("payment {n}"));
                let signed = if wrong.contains(&n) { digest_of("another") } else { digest };
                let signature = sign_as(a, key, EIGHT_TORSION[n % 8], &signed);
                Check { key: PublicKey::Ed25519(key), digest, signature }
            })
            .collect();
        let expected: Vec<bool> = (0..size).map(|n| !wrong.contains(&n)).collect();
        prop_assert_eq!(verify_batch(&checks), expected);
    }
}
