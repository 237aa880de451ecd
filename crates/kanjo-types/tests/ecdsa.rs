//! ECDSA over P-256 and secp256k1: one signature has one form, one key has one form.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use kanjo_types::access::{Access, AccessError};
use kanjo_types::signature::{Check, KeyKind, SecretKey, is_key, verify, verify_batch};
use kanjo_types::{Hash, PublicKey};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const KINDS: [KeyKind; 3] = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1];
const ECDSA: [KeyKind; 2] = [KeyKind::P256, KeyKind::Secp256k1];

const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const SECP256K1_ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

fn order(kind: KeyKind) -> [u8; 32] {
    let text = if kind == KeyKind::P256 { P256_ORDER } else { SECP256K1_ORDER };
    bytes(text)
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).expect("hex").try_into().expect("length")
}

/// `a − b` of big-endian numbers, `a ≥ b`.
fn minus(a: &[u8; 32], b: &[u8]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrow = 0i16;
    for at in (0..32).rev() {
        let value = i16::from(a[at]) - i16::from(b[at]) - borrow;
        borrow = i16::from(value < 0);
        difference[at] = value.to_le_bytes()[0];
    }
    assert_eq!(borrow, 0);
    difference
}

fn message(text: &str) -> Hash {
    Hash(Sha256::digest(text.as_bytes()).into())
}

struct Known {
    kind: KeyKind,
    secret: &'static str,
    public: &'static str,
    message: &'static str,
    r: &'static str,
    s: &'static str,
}

/// RFC 6979 A.2.5 (SHA-256), and the secp256k1 vectors that Bitcoin libraries share. `s` as
/// published; where it is high, a ledger signature has `order − s`.
const KNOWN: [Known; 4] = [
    Known {
        kind: KeyKind::P256,
        secret: "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        public: "0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        message: "sample",
        r: "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        s: "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    },
    Known {
        kind: KeyKind::P256,
        secret: "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
        public: "0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        message: "test",
        r: "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        s: "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    },
    Known {
        kind: KeyKind::Secp256k1,
        secret: "0000000000000000000000000000000000000000000000000000000000000001",
        public: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        message: "Satoshi Nakamoto",
        r: "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8",
        s: "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
    },
    Known {
        kind: KeyKind::Secp256k1,
        secret: "0000000000000000000000000000000000000000000000000000000000000001",
        public: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        message: "All those moments will be lost in time, like tears in rain. Time to die...",
        r: "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b",
        s: "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21",
    },
];

#[test]
fn known_rfc6979_signatures_come_out_with_low_s() {
    for known in &KNOWN {
        let secret = SecretKey::from_seed(known.kind, bytes(known.secret)).expect("secret key");
        let public = match secret.public() {
            PublicKey::P256(bytes) | PublicKey::Secp256k1(bytes) => hex::encode(bytes),
            PublicKey::Ed25519(_) => panic!("an ECDSA key"),
        };
        assert_eq!(public, known.public);
        let order = order(known.kind);
        let published: [u8; 32] = bytes(known.s);
        let low = published.min(minus(&order, &published));
        let digest = message(known.message);
        let expected: [u8; 64] = [bytes::<32>(known.r), low].concat().try_into().expect("64 bytes");
        assert_eq!(hex::encode(secret.sign(&digest)), hex::encode(expected), "{}", known.message);
        assert!(verify(&secret.public(), &digest, &expected));
    }
}

#[test]
fn the_other_s_of_a_good_signature_is_refused() {
    for kind in ECDSA {
        for seed in 1..=16u8 {
            let secret = SecretKey::from_seed(kind, [seed; 32]).expect("secret key");
            let digest = message("payment");
            let mut signature = secret.sign(&digest);
            assert!(verify(&secret.public(), &digest, &signature));
            let high = minus(&order(kind), &signature[32..]);
            signature[32..].copy_from_slice(&high);
            assert!(!verify(&secret.public(), &digest, &signature), "{kind:?} high s");
        }
    }
}

#[test]
fn zero_and_oversized_r_and_s_are_refused() {
    for kind in ECDSA {
        let secret = SecretKey::from_seed(kind, [7; 32]).expect("secret key");
        let digest = message("payment");
        let good = secret.sign(&digest);
        let order = order(kind);
        for (name, value) in [("zero", [0; 32]), ("the order", order), ("2^256 - 1", [0xff; 32])] {
            for (half, range) in [("r", 0..32), ("s", 32..64)] {
                let mut signature = good;
                signature[range].copy_from_slice(&value);
                assert!(!verify(&secret.public(), &digest, &signature), "{kind:?} {half} = {name}");
            }
        }
        assert!(!verify(&secret.public(), &digest, &[0; 64]), "{kind:?}");
    }
}

#[test]
fn a_signature_is_not_taken_for_a_key_of_another_kind() {
    let digest = message("payment");
    for kind in KINDS {
        let secret = SecretKey::from_seed(kind, [9; 32]).expect("secret key");
        let signature = secret.sign(&digest);
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            let key = SecretKey::from_seed(other, [9; 32]).expect("secret key").public();
            assert!(!verify(&key, &digest, &signature), "{kind:?} under {other:?}");
        }
        // The same 33 bytes labelled as the other curve.
        let relabelled = match secret.public() {
            PublicKey::P256(bytes) => PublicKey::Secp256k1(bytes),
            PublicKey::Secp256k1(bytes) => PublicKey::P256(bytes),
            key @ PublicKey::Ed25519(_) => key,
        };
        let same = relabelled == secret.public();
        assert_eq!(verify(&relabelled, &digest, &signature), same, "{kind:?}");
    }
}

#[test]
fn a_key_has_one_encoding_so_that_one_holder_cant_count_twice() {
    for kind in ECDSA {
        let secret = SecretKey::from_seed(kind, [5; 32]).expect("secret key");
        let (PublicKey::P256(good) | PublicKey::Secp256k1(good)) = secret.public() else {
            panic!("an ECDSA key")
        };
        let digest = message("payment");
        let signature = secret.sign(&digest);
        for tag in 0..=255u8 {
            let mut bytes = good;
            bytes[0] = tag;
            let key = match kind {
                KeyKind::P256 => PublicKey::P256(bytes),
                _ => PublicKey::Secp256k1(bytes),
            };
            assert_eq!(is_key(&key), tag == 2 || tag == 3, "{kind:?} tag {tag}");
            assert_eq!(verify(&key, &digest, &signature), tag == good[0], "{kind:?} tag {tag}");
            let expected = if is_key(&key) { Ok(()) } else { Err(AccessError::NotAKey(0)) };
            assert_eq!(Access::Single(key).check(), expected, "{kind:?} tag {tag}");
        }
        // x at or above the field's prime is no second name of a point.
        let mut too_large = [0xff; 33];
        too_large[0] = 2;
        assert!(!is_key(&PublicKey::P256(too_large)));
        assert!(!is_key(&PublicKey::Secp256k1(too_large)));
    }
}

#[test]
fn secret_keys_outside_the_group_are_refused() {
    for kind in ECDSA {
        assert!(SecretKey::from_seed(kind, [0; 32]).is_err(), "{kind:?}");
        assert!(SecretKey::from_seed(kind, order(kind)).is_err(), "{kind:?}");
        assert!(SecretKey::from_seed(kind, [0xff; 32]).is_err(), "{kind:?}");
    }
    assert!(SecretKey::from_seed(KeyKind::Ed25519, [0; 32]).is_ok());
}

#[test]
fn a_secret_key_does_not_print_itself() {
    for kind in KINDS {
        let secret = SecretKey::from_seed(kind, [0xab; 32]).expect("secret key");
        assert!(!format!("{secret:?}").contains("abababab"), "{kind:?}");
    }
}

proptest! {
    #![proptest_config(common::config(48, 6979))]

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does(seed: [u8; 32], digest: [u8; 32], bit in 0usize..768) {
        for kind in KINDS {
            let Ok(secret) = SecretKey::from_seed(kind, seed) else { continue };
            let (key, digest) = (secret.public(), Hash(digest));
            let signature = secret.sign(&digest);
            prop_assert_eq!(signature, secret.sign(&digest), "deterministic");
            prop_assert!(verify(&key, &digest, &signature));
            let (mut digest_2, mut signature_2) = (digest, signature);
            if bit < 256 {
                digest_2.0[bit / 8] ^= 1 << (bit % 8);
            } else {
                signature_2[(bit - 256) / 8] ^= 1 << (bit % 8);
            }
            prop_assert!(!verify(&key, &digest_2, &signature_2));
            let checks = [
                Check { key, digest, signature },
                Check { key, digest: digest_2, signature: signature_2 },
            ];
            prop_assert_eq!(verify_batch(&checks), vec![true, false]);
        }
    }
}
