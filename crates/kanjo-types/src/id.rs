//! Names of things: chains, users, wallets, tokens, transactions.
//!
//! User and wallet ids are the first 16 bytes of a digest over the chain and what defines them, so
//! a client knows an id before the ledger does, and an id of one chain means nothing on another.
//! Their text form is bech32m (BIP 350) with the prefixes `kju` and `kjw`: a typing error is caught
//! before money moves.

use crate::access::Access;
use crate::codec;
use crate::hash::{self, Hash, ParseHashError, TAG_ITEM, TAG_USER, TAG_WALLET};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The text was not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not bech32m, or its checksum is wrong.
    #[error("'{text}' is not a valid {expected} id (mistyped?); it looks like {expected_prefix}1…")]
    Mistyped {
        /// What was given.
        text: String,
        /// `user` or `wallet`.
        expected: &'static str,
        /// `kju` or `kjw`.
        expected_prefix: &'static str,
    },
    /// A good id of another kind.
    #[error("'{text}' is a '{found}' id; a {expected} id starts with {expected_prefix}1")]
    OtherKind {
        /// What was given.
        text: String,
        /// The prefix found.
        found: String,
        /// `user` or `wallet`.
        expected: &'static str,
        /// `kju` or `kjw`.
        expected_prefix: &'static str,
    },
}

fn parse_bech32(
    text: &str,
    expected: &'static str,
    expected_prefix: &'static str,
) -> Result<[u8; 16], ParseIdError> {
    let shown = || text.chars().take(80).collect::<String>();
    let mistyped = || ParseIdError::Mistyped { text: shown(), expected, expected_prefix };
    let parsed = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32m>(text.trim())
        .map_err(|_| mistyped())?;
    let found = parsed.hrp().to_lowercase();
    if found != expected_prefix {
        return Err(ParseIdError::OtherKind { text: shown(), found, expected, expected_prefix });
    }
    // Left-over bits must be zero and few, or one id would have several texts with right checksums.
    parsed.validate_segwit_padding().map_err(|_| mistyped())?;
    let bytes: Vec<u8> = parsed.byte_iter().collect();
    bytes.try_into().map_err(|_| mistyped())
}

macro_rules! bech32_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let prefix = bech32::Hrp::parse_unchecked($prefix);
                let text = bech32::encode::<bech32::Bech32m>(prefix, &self.0).map_err(|_| fmt::Error)?;
                f.pad(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_bech32(text, $kind, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_text(deserializer)
            }
        }
    };
}

bech32_id!(
    /// A person or company: keys and authorities. Text form `kju1…`.
    UserId,
    "user",
    "kju"
);
bech32_id!(
    /// A wallet of a user: one balance for each token. Text form `kjw1…`.
    WalletId,
    "wallet",
    "kjw"
);

macro_rules! item_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        bech32_id!($(#[$doc])* $name, $kind, $prefix);

        impl $name {
            /// The id of what operation number `operation` of `transaction` makes; `part` tells
            /// several things of one operation apart (0 for the first). A client knows it before
            /// the ledger does.
            #[must_use]
            pub fn derive(transaction: TransactionId, operation: u32, part: u32) -> Self {
                let numbers = [operation.to_le_bytes(), part.to_le_bytes()];
                let parts = [&transaction.0.0[..], $prefix.as_bytes(), numbers.as_flattened()];
                Self(first_16(hash::digest(TAG_ITEM, &parts)))
            }
        }
    };
}

item_id!(
    /// A pending payment. Text form `kjp1…`.
    PendingId,
    "pending payment",
    "kjp"
);
item_id!(
    /// A bundle that is collected on the ledger. Text form `kjb1…`.
    BundleId,
    "bundle",
    "kjb"
);
item_id!(
    /// A scheduled or standing payment. Text form `kjs1…`.
    ScheduleId,
    "scheduled payment",
    "kjs"
);
item_id!(
    /// An administrative act. Text form `kja1…`.
    ActId,
    "administrative act",
    "kja"
);
item_id!(
    /// A claim that a reversal left on a wallet. Text form `kjc1…`.
    ClaimId,
    "claim",
    "kjc"
);

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Hash);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

hash_id!(
    /// The digest of a genesis: names the ledger in everything that is signed.
    ChainId
);
hash_id!(
    /// The digest of a transaction's body: what its author signs.
    TransactionId
);

macro_rules! numbered_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

numbered_id!(
    /// A currency or asset: the position of its creation, counted from 1 (the first token of the
    /// genesis).
    TokenId
);
numbered_id!(
    /// A table or view that users define: the position of its creation, counted from 1.
    RelationId
);

impl UserId {
    /// The id of the user that `access` and `number` define on `chain`. `number` lets one set of
    /// keys hold several users.
    #[must_use]
    pub fn derive(chain: ChainId, access: &Access, number: u64) -> Self {
        let access = codec::to_bytes(access);
        Self(first_16(hash::digest(TAG_USER, &[&chain.0.0, &number.to_le_bytes(), &access])))
    }
}

impl WalletId {
    /// The id of the `number`-th wallet of `owner` on `chain`.
    #[must_use]
    pub fn derive(chain: ChainId, owner: UserId, number: u64) -> Self {
        Self(first_16(hash::digest(TAG_WALLET, &[&chain.0.0, &owner.0, &number.to_le_bytes()])))
    }
}

fn first_16(hash: Hash) -> [u8; 16] {
    let mut id = [0u8; 16];
    id.iter_mut().zip(hash.0).for_each(|(to, from)| *to = from);
    id
}

/// Deserializes a value from its text form.
pub(crate) fn deserialize_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_wallet_is_refused() {
        let id = WalletId([7; 16]);
        let text = id.to_string();
        assert!(text.starts_with("kjw1"));
        assert_eq!(text.parse::<WalletId>(), Ok(id));
        let mut wrong = text.clone();
        let last = wrong.pop().expect("not empty");
        wrong.push(if last == 'q' { 'p' } else { 'q' });
        assert!(matches!(wrong.parse::<WalletId>(), Err(ParseIdError::Mistyped { .. })));
        assert!(matches!(text.parse::<UserId>(), Err(ParseIdError::OtherKind { .. })));
    }

    #[test]
    fn json_of_ids_accepts_owned_and_escaped_text() {
        let id = UserId([9; 16]);
        let json = serde_json::to_string(&id).expect("json");
        assert_eq!(serde_json::from_str::<UserId>(&json).expect("borrowed"), id);
        let value = serde_json::to_value(id).expect("json");
        assert_eq!(serde_json::from_value::<UserId>(value).expect("owned"), id);
    }
}
