//! Signing and verification: Ed25519 (ZIP 215), P-256 and secp256k1.
//!
//! What is signed is always a 32-byte digest with a domain tag. Ed25519 signs the digest as its
//! message; the two ECDSA curves take it as the pre-hash and demand low `s` (BIP 62), so a
//! signature has one form.
//!
//! # Why ZIP 215
//! RFC 8032 leaves open whether verification multiplies by the cofactor and which encodings of
//! points are accepted; implementations differ, and single and batch verification of one
//! implementation differ too. On a replicated ledger that is a fork. ZIP 215 fixes both, and
//! [`verify_batch`] accepts exactly what [`verify`] accepts.

use crate::access::PublicKey;
use crate::hash::Hash;
use ed25519_zebra as zebra;
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Kinds of account keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Ed25519, the default.
    Ed25519,
    /// NIST P-256.
    P256,
    /// secp256k1.
    Secp256k1,
}

/// The bytes are no secret key of the kind (zero or above the group order, ECDSA only).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are not a {0:?} secret key; draw new random bytes")]
pub struct SecretKeyError(KeyKind);

/// A secret key. Never leaves the client; wiped from memory when dropped.
pub enum SecretKey {
    /// Ed25519.
    Ed25519(zebra::SigningKey),
    /// NIST P-256.
    P256(p256::ecdsa::SigningKey),
    /// secp256k1.
    Secp256k1(k256::ecdsa::SigningKey),
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

impl SecretKey {
    /// The secret key given by 32 bytes from a good source of randomness.
    ///
    /// # Errors
    /// [`SecretKeyError`] for the few values that are no ECDSA key.
    pub fn from_seed(kind: KeyKind, seed: [u8; 32]) -> Result<Self, SecretKeyError> {
        match kind {
            KeyKind::Ed25519 => Ok(Self::Ed25519(zebra::SigningKey::from(seed))),
            KeyKind::P256 => p256::ecdsa::SigningKey::from_slice(&seed)
                .map(Self::P256)
                .map_err(|_| SecretKeyError(kind)),
            KeyKind::Secp256k1 => k256::ecdsa::SigningKey::from_slice(&seed)
                .map(Self::Secp256k1)
                .map_err(|_| SecretKeyError(kind)),
        }
    }

    /// The public half.
    ///
    /// # Panics
    /// Never: a compressed SEC1 point has 33 bytes.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Ed25519(key) => PublicKey::Ed25519(zebra::VerificationKeyBytes::from(key).into()),
            Self::P256(key) => {
                PublicKey::P256(sec1(key.verifying_key().to_sec1_point(true).as_bytes()))
            }
            Self::Secp256k1(key) => {
                PublicKey::Secp256k1(sec1(key.verifying_key().to_sec1_point(true).as_bytes()))
            }
        }
    }

    /// Signs a digest. Deterministic (RFC 8032, RFC 6979).
    ///
    /// # Panics
    /// Never: a 32-byte pre-hash is always signable.
    #[must_use]
    pub fn sign(&self, digest: &Hash) -> [u8; 64] {
        match self {
            Self::Ed25519(key) => key.sign(&digest.0).to_bytes(),
            Self::P256(key) => {
                let signed: Result<p256::ecdsa::Signature, _> = key.sign_prehash(&digest.0);
                signed.map_or([0; 64], |signature| signature.normalize_s().to_bytes().into())
            }
            Self::Secp256k1(key) => {
                let signed: Result<k256::ecdsa::Signature, _> = key.sign_prehash(&digest.0);
                signed.map_or([0; 64], |signature| signature.normalize_s().to_bytes().into())
            }
        }
    }
}

fn sec1(bytes: &[u8]) -> [u8; 33] {
    let array = <[u8; 33]>::try_from(bytes);
    assert!(array.is_ok(), "compressed SEC1 points have 33 bytes");
    array.unwrap_or([0; 33])
}

/// True when the bytes may be the key of an account: a point on the curve of their kind, and for
/// Ed25519 (any ZIP 215 encoding) none of small order, since anyone can sign for those.
#[must_use]
pub fn is_key(key: &PublicKey) -> bool {
    match key {
        PublicKey::Ed25519(bytes) => curve25519_dalek::edwards::CompressedEdwardsY(*bytes)
            .decompress()
            .is_some_and(|point| !point.is_small_order()),
        PublicKey::P256(bytes) => p256_key(bytes).is_some(),
        PublicKey::Secp256k1(bytes) => k256_key(bytes).is_some(),
    }
}

/// Can only the holder of the private half agree on a secret with this X25519 key? Not so for the
/// few points of low order, zero among them: whoever was admitted with such a key could be played
/// by anybody.
#[must_use]
pub fn is_agreement_key(key: &[u8; 32]) -> bool {
    use curve25519_dalek::{MontgomeryPoint, Scalar};
    // The low orders of the curve and of its twist divide 8; points of low order, and no others,
    // become the neutral one, whose u is written as zero.
    let times_eight = MontgomeryPoint(*key) * Scalar::from(8u8);
    times_eight.0 != [0; 32]
}

/// Is it a point of P-256, given as x, then y?
#[must_use]
pub fn is_p256_point(point: &[u8; 64]) -> bool {
    let sec1: Vec<u8> = std::iter::once(4).chain(*point).collect();
    p256::ecdsa::VerifyingKey::from_sec1_bytes(&sec1).is_ok()
}

/// SEC1 has a second 33-byte form (tag 5, x only). Were it taken, one key could count twice in
/// shared access.
fn is_compressed(bytes: &[u8; 33]) -> bool {
    matches!(bytes, [2 | 3, ..])
}

fn p256_key(bytes: &[u8; 33]) -> Option<p256::ecdsa::VerifyingKey> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok();
    key.filter(|_| is_compressed(bytes))
}

fn k256_key(bytes: &[u8; 33]) -> Option<k256::ecdsa::VerifyingKey> {
    let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok();
    key.filter(|_| is_compressed(bytes))
}

/// True when `signature` is `key`'s over `digest`.
#[must_use]
pub fn verify(key: &PublicKey, digest: &Hash, signature: &[u8; 64]) -> bool {
    match key {
        PublicKey::Ed25519(bytes) => zebra::VerificationKey::try_from(*bytes)
            .and_then(|key| key.verify(&zebra::Signature::from_bytes(signature), &digest.0))
            .is_ok(),
        PublicKey::P256(bytes) => {
            let key = p256_key(bytes);
            let signature = p256::ecdsa::Signature::from_slice(signature);
            match (key, signature) {
                (Some(key), Ok(signature)) => {
                    signature.normalize_s() == signature
                        && key.verify_prehash(&digest.0, &signature).is_ok()
                }
                _ => false,
            }
        }
        PublicKey::Secp256k1(bytes) => {
            let key = k256_key(bytes);
            let signature = k256::ecdsa::Signature::from_slice(signature);
            match (key, signature) {
                (Some(key), Ok(signature)) => {
                    signature.normalize_s() == signature
                        && key.verify_prehash(&digest.0, &signature).is_ok()
                }
                _ => false,
            }
        }
    }
}

/// One signature to check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// By whom.
    pub key: PublicKey,
    /// Over what.
    pub digest: Hash,
    /// The signature.
    pub signature: [u8; 64],
}

/// Checks many signatures; the answer at position i is [`verify`]'s for item i.
///
/// Ed25519 signatures are checked together (one multi-scalar multiplication); when the whole fails,
/// halves are tried, so k bad ones among n cost about k·log n more. The coefficients come from a
/// hash of everything checked (Fiat–Shamir), so the answer is a function of the input alone; a
/// wrong "yes" has probability 2⁻¹²⁸.
#[must_use]
pub fn verify_batch(checks: &[Check]) -> Vec<bool> {
    let mut answers = vec![false; checks.len()];
    let mut items = Vec::with_capacity(checks.len());
    for ((position, check), answer) in checks.iter().enumerate().zip(&mut answers) {
        match check.key {
            PublicKey::Ed25519(key) => {
                let signature = zebra::Signature::from_bytes(&check.signature);
                let key = zebra::VerificationKeyBytes::from(key);
                items.push((position, zebra::batch::Item::from((key, signature, &check.digest.0))));
            }
            _ => *answer = verify(&check.key, &check.digest, &check.signature),
        }
    }
    if !items.is_empty() {
        let seed = transcript(checks);
        settle(&items, &seed, &mut answers);
    }
    answers
}

/// Below this size a failing batch is settled one by one: a batch of few is no faster.
const SETTLE_SINGLY: usize = 8;

fn settle(items: &[(usize, zebra::batch::Item)], seed: &[u8; 32], answers: &mut [bool]) {
    let mut mark = |position: usize, good: bool| {
        if let Some(answer) = answers.get_mut(position) {
            *answer = good;
        }
    };
    if items.len() < SETTLE_SINGLY {
        for (position, item) in items {
            mark(*position, item.clone().verify_single().is_ok());
        }
        return;
    }
    let mut verifier = zebra::batch::Verifier::new();
    items.iter().for_each(|(_, item)| verifier.queue(item.clone()));
    if verifier.verify(rand_chacha::ChaCha8Rng::from_seed(*seed)).is_ok() {
        items.iter().for_each(|(position, _)| mark(*position, true));
        return;
    }
    let (left, right) = items.split_at(items.len() / 2);
    settle(left, seed, answers);
    settle(right, seed, answers);
}

fn transcript(checks: &[Check]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("kanjo 2026 signature batch coefficients");
    for check in checks {
        if let PublicKey::Ed25519(key) = &check.key {
            hasher.update(key);
        }
        hasher.update(&check.digest.0);
        hasher.update(&check.signature);
    }
    *hasher.finalize().as_bytes()
}
