//! Signature checks on any bytes: a batch answers what single checks answer.

use kanjo_types::signature::{Check, verify, verify_batch};
use kanjo_types::{Hash, PublicKey};

/// Most signatures taken from one input, which bounds its time.
const CHECKS_MAX: usize = 16;

/// One byte for the kind, 33 for the key, 32 for the digest, 64 for the signature.
const CHECK_BYTES: usize = 1 + 33 + 32 + 64;

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    array
}

fn read(chunk: &[u8]) -> Check {
    let (kind, rest) = chunk.split_at_checked(1).unwrap_or_default();
    let (key, rest) = rest.split_at_checked(33).unwrap_or((rest, &[]));
    let (digest, signature) = rest.split_at_checked(32).unwrap_or((rest, &[]));
    let key = match kind {
        [1] => PublicKey::P256(array(key)),
        [2] => PublicKey::Secp256k1(array(key)),
        _ => PublicKey::Ed25519(array(key)),
    };
    Check { key, digest: Hash(array(digest)), signature: array(signature) }
}

/// Checks signatures one by one and in a batch, and asserts equal answers.
pub fn verify_signatures(data: &[u8]) {
    let checks: Vec<Check> = data.chunks(CHECK_BYTES).take(CHECKS_MAX).map(read).collect();
    let single: Vec<bool> =
        checks.iter().map(|check| verify(&check.key, &check.digest, &check.signature)).collect();
    assert!(verify_batch(&checks) == single, "a batch differs from single checks");
}
