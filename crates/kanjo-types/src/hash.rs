//! SHA-256 with domain separation.
//!
//! A digest is `SHA-256(tag ‖ parts…)` where `tag` is 16 ASCII bytes padded with zeros. Tags never
//! share a prefix relation, so no byte string hashed for one purpose can be read as another's.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// A 32-byte SHA-256 or BLAKE3 digest. Text form: 64 lower-case hexadecimal digits.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// All zeros: "there is no previous version".
    pub const ZERO: Self = Self([0; 32]);

    /// True for [`Hash::ZERO`].
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not a 32-byte hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a hash: expected 64 hexadecimal digits")]
pub struct ParseHashError(String);

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text.trim(), &mut bytes)
            .map_err(|_| ParseHashError(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::deserialize_text(deserializer)
    }
}

/// What a digest is for. The 16 bytes are the first bytes hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub &'static [u8; 16]);

/// Transaction id: body of a transaction, as signed.
pub const TAG_TRANSACTION: Tag = Tag(b"kanjo/tx-id/v1\0\0");
/// The signatures of a transaction.
pub const TAG_WITNESS: Tag = Tag(b"kanjo/witness/1\0");
/// One version of a record.
pub const TAG_RECORD: Tag = Tag(b"kanjo/record/1\0\0");
/// A block header.
pub const TAG_HEADER: Tag = Tag(b"kanjo/header/1\0\0");
/// What a voter signs.
pub const TAG_VOTE: Tag = Tag(b"kanjo/vote/1\0\0\0\0");
/// What a leader signs for a block before anybody appends it.
pub const TAG_PROPOSAL: Tag = Tag(b"kanjo/proposal/1");
/// The challenge of a block for Proof of Integrity.
pub const TAG_CHALLENGE: Tag = Tag(b"kanjo/challeng/1");
/// The answer to that challenge.
pub const TAG_INTEGRITY: Tag = Tag(b"kanjo/integrit/1");
/// A node's certificate.
pub const TAG_MEMBER: Tag = Tag(b"kanjo/member/1\0\0");
/// What members sign about each other or themselves.
pub const TAG_NOTICE: Tag = Tag(b"kanjo/notice/1\0\0");
/// A receipt.
pub const TAG_RECEIPT: Tag = Tag(b"kanjo/receipt/1\0");
/// A genesis, whose digest is the chain id.
pub const TAG_GENESIS: Tag = Tag(b"kanjo/genesis/1\0");
/// A user id.
pub const TAG_USER: Tag = Tag(b"kanjo/user-id/1\0");
/// A wallet id.
pub const TAG_WALLET: Tag = Tag(b"kanjo/wallet/1\0\0");
/// The id of something that an operation makes: a pending payment, a bundle, an act …
pub const TAG_ITEM: Tag = Tag(b"kanjo/item/1\0\0\0\0");
/// A salted commitment to a personal attribute.
pub const TAG_ATTRIBUTE: Tag = Tag(b"kanjo/attrib/1\0\0");
/// The records of all signers of a transaction that several sign.
pub const TAG_SIGNERS: Tag = Tag(b"kanjo/signers/1\0");
/// The end of the key of a row of a table that users define.
pub const TAG_ROW_KEY: Tag = Tag(b"kanjo/row-key/1\0");
/// A range of such rows, as a condition names it.
pub const TAG_RANGE: Tag = Tag(b"kanjo/range/1\0\0\0");
/// The root over tables and partitions.
pub const TAG_STATE: Tag = Tag(b"kanjo/state/1\0\0\0");
/// The root of one partition of one table.
pub const TAG_PARTITION: Tag = Tag(b"kanjo/part/1\0\0\0\0");

/// RFC 6962 root of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// `SHA-256(tag ‖ parts…)`.
#[must_use]
pub fn digest(tag: Tag, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(tag.0);
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_plain_sha256_of_tag_and_parts() {
        let mut bytes = TAG_VOTE.0.to_vec();
        bytes.extend_from_slice(b"abc");
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(digest(TAG_VOTE, &[b"a", b"bc"]), Hash(expected));
    }

    #[test]
    fn text_form_round_trips_and_names_the_bad_input() {
        let hash = digest(TAG_USER, &[b"x"]);
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        let error = "zz".parse::<Hash>().expect_err("must refuse");
        assert!(error.to_string().contains("'zz' is not a hash"));
    }
}
