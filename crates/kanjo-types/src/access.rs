//! Who may act for a user: one key, or m of n keys.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Most keys a user can have.
pub const KEYS_MAX: usize = 16;

/// A public key of an account. Text form: `ed25519:<hex>`, `p256:<hex>`, `secp256k1:<hex>`.
///
/// P-256 and secp256k1 keys are compressed SEC1 points (33 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub enum PublicKey {
    /// Ed25519 under ZIP 215 rules.
    Ed25519([u8; 32]),
    /// ECDSA over NIST P-256 (passkeys, hardware security modules).
    P256([u8; 33]),
    /// ECDSA over secp256k1 (Ethereum wallets).
    Secp256k1([u8; 33]),
}

/// The text was not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a public key: expected ed25519:<64 hex digits>, p256:<66> or secp256k1:<66>")]
pub struct ParseKeyError(String);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(bytes) => write!(f, "ed25519:{}", hex::encode(bytes)),
            Self::P256(bytes) => write!(f, "p256:{}", hex::encode(bytes)),
            Self::Secp256k1(bytes) => write!(f, "secp256k1:{}", hex::encode(bytes)),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
            let mut bytes = [0u8; N];
            hex::decode_to_slice(digits, &mut bytes).ok()?;
            Some(bytes)
        }
        let parsed = text.trim().split_once(':').and_then(|(kind, digits)| match kind {
            "ed25519" => bytes(digits).map(Self::Ed25519),
            "p256" => bytes(digits).map(Self::P256),
            "secp256k1" => bytes(digits).map(Self::Secp256k1),
            _ => None,
        });
        parsed.ok_or_else(|| ParseKeyError(text.chars().take(160).collect()))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::deserialize_text(deserializer)
    }
}

/// The keys of a user and how many of them must sign. One key has one form only:
/// [`Access::Single`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Access {
    /// One key signs alone.
    Single(PublicKey),
    /// `threshold` of `keys` sign together.
    Shared {
        /// How many must sign: 1 … `keys.len()`.
        threshold: u8,
        /// 2 … [`KEYS_MAX`] distinct keys, in ascending order.
        keys: Vec<PublicKey>,
    },
}

/// The keys of a user break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A shared access of fewer than two or more than [`KEYS_MAX`] keys.
    #[error("{0} keys; shared access has 2 to 16 keys, a single key uses the single form")]
    KeyCount(usize),
    /// Zero, or more than there are keys.
    #[error("threshold {threshold} of {keys} keys; it must be 1 to the number of keys")]
    Threshold {
        /// Given threshold.
        threshold: u8,
        /// Number of keys.
        keys: usize,
    },
    /// Not strictly ascending.
    #[error("keys must be distinct and in ascending order")]
    KeyOrder,
    /// Bytes that are no key of the stated kind.
    #[error("key {0} is not a point on its curve")]
    NotAKey(usize),
}

impl Access {
    /// Shared access in canonical order; one key gives [`Access::Single`].
    ///
    /// # Errors
    /// [`AccessError`] when the keys or the threshold break a rule.
    pub fn new(threshold: u8, mut keys: Vec<PublicKey>) -> Result<Self, AccessError> {
        keys.sort_unstable();
        let access = match (keys.as_slice(), threshold) {
            ([key], 1) => Self::Single(*key),
            _ => Self::Shared { threshold, keys },
        };
        access.check()?;
        Ok(access)
    }

    /// Checks the rules stated at the variants, and that every key is a point on its curve.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check(&self) -> Result<(), AccessError> {
        if let Self::Shared { threshold, keys } = self {
            if !(2..=KEYS_MAX).contains(&keys.len()) {
                return Err(AccessError::KeyCount(keys.len()));
            }
            if *threshold == 0 || usize::from(*threshold) > keys.len() {
                return Err(AccessError::Threshold { threshold: *threshold, keys: keys.len() });
            }
            if !keys.is_sorted_by(|a, b| a < b) {
                return Err(AccessError::KeyOrder);
            }
        }
        match self.keys().iter().position(|key| !crate::signature::is_key(key)) {
            Some(position) => Err(AccessError::NotAKey(position)),
            None => Ok(()),
        }
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        match self {
            Self::Single(key) => std::slice::from_ref(key),
            Self::Shared { keys, .. } => keys,
        }
    }

    /// How many keys must sign.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        match self {
            Self::Single(_) => 1,
            Self::Shared { threshold, .. } => *threshold,
        }
    }
}

/// One signature over a transaction id, by the key at position `key` of the author's [`Access`].
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySignature {
    /// Position of the key, counted from 0.
    pub key: u8,
    /// 64 bytes: Ed25519 `R ‖ s`, or ECDSA `r ‖ s` with low `s`. JSON form: 128 hexadecimal digits.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

impl fmt::Debug for KeySignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, hex::encode(self.signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{KeyKind, SecretKey};

    fn key(kind: KeyKind, seed: u8) -> PublicKey {
        SecretKey::from_seed(kind, [seed; 32]).expect("valid seed").public()
    }

    #[test]
    fn access_has_one_canonical_form() {
        let (a, b) = (key(KeyKind::Ed25519, 1), key(KeyKind::P256, 2));
        assert_eq!(Access::new(1, vec![a]), Ok(Access::Single(a)));
        assert_eq!(Access::new(2, vec![b, a]), Access::new(2, vec![a, b]));
        assert_eq!(Access::new(1, vec![a, a]), Err(AccessError::KeyOrder));
        assert_eq!(
            Access::new(3, vec![a, b]),
            Err(AccessError::Threshold { threshold: 3, keys: 2 })
        );
        assert!(Access::new(0, vec![a, b]).is_err());
        assert_eq!(Access::new(1, vec![]), Err(AccessError::KeyCount(0)));
        let off_curve = Access::Single(PublicKey::P256([0xff; 33]));
        assert_eq!(off_curve.check(), Err(AccessError::NotAKey(0)));
    }

    #[test]
    fn key_text_round_trips() {
        for kind in [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1] {
            let key = key(kind, 3);
            assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        }
        assert!("rsa:00".parse::<PublicKey>().is_err());
    }
}
