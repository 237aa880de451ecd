//! Records: hash-linked versions of the rows of the ledger's tables (mission M1).
//!
//! Every record is *chainable*: it carries the hash of its own previous version and the hash of the
//! transaction it came from, and the hashes of the records it refers to. A transaction's record
//! carries the wallet states it spends and, for each, the transaction before it. So every record
//! leads back through its whole history, and every operation certifies the earlier ones that
//! concern it.

use crate::access::Access;
use crate::amount::Amount;
use crate::codec;
use crate::hash::{self, Hash, TAG_RECORD};
use crate::id::{TokenId, TransactionId, UserId, WalletId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A table of the ledger that has a state tree.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Table {
    /// Users by id.
    Users = 0,
    /// Wallets by id.
    Wallets = 1,
    /// Tokens by number.
    Tokens = 2,
    /// Wallet states by wallet id and token number.
    WalletStates = 3,
}

impl Table {
    /// Every table, in the order of the state root.
    pub const ALL: [Self; 4] = [Self::Users, Self::Wallets, Self::Tokens, Self::WalletStates];
}

/// How many partitions each table has. A row's partition is the top six bits of its key.
pub const PARTITIONS: usize = 64;

/// The key of a row in its table's tree: the row's own key, padded with zeros at the end. Unsigned
/// bytes sort as the keys do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct RowKey(pub Hash);

impl RowKey {
    /// Below every row: the key of each partition's first leaf.
    pub const MIN: Self = Self(Hash([0; 32]));
    /// Above every row: what the last row of a partition points to.
    pub const MAX: Self = Self(Hash([0xff; 32]));

    fn padded(parts: [&[u8]; 2]) -> Self {
        let mut key = [0u8; 32];
        let bytes = parts.iter().flat_map(|part| part.iter());
        key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(Hash(key))
    }

    /// Key of a user.
    #[must_use]
    pub fn user(id: UserId) -> Self {
        Self::padded([&id.0, &[]])
    }

    /// Key of a wallet.
    #[must_use]
    pub fn wallet(id: WalletId) -> Self {
        Self::padded([&id.0, &[]])
    }

    /// Key of a token (big-endian, so that bytes sort as numbers do).
    #[must_use]
    pub fn token(id: TokenId) -> Self {
        Self::padded([&id.0.to_be_bytes(), &[]])
    }

    /// Key of a wallet's state in a token.
    #[must_use]
    pub fn wallet_state(wallet: WalletId, token: TokenId) -> Self {
        Self::padded([&wallet.0, &token.0.to_be_bytes()])
    }

    /// The partition of the row: the top six bits of the key.
    #[must_use]
    pub fn partition(&self) -> u16 {
        let [first, ..] = self.0.0;
        u16::from(first >> 2)
    }
}

/// A version of a user.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct UserRecord {
    /// Which user.
    pub id: UserId,
    /// 1 for the first version.
    pub version: u64,
    /// Keys.
    pub access: Access,
    /// Who registered it; itself when it registered alone or in the genesis.
    pub sponsor: UserId,
    /// Hash of the previous version, or zero.
    pub previous: Hash,
    /// Hash of the transaction record this version came from.
    pub transaction: Hash,
}

/// A version of a wallet.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WalletRecord {
    /// Which wallet.
    pub id: WalletId,
    /// 1 for the first version.
    pub version: u64,
    /// Whose.
    pub owner: UserId,
    /// Which of the owner's.
    pub number: u64,
    /// Hash of the previous version, or zero.
    pub previous: Hash,
    /// Hash of the transaction record this version came from.
    pub transaction: Hash,
    /// Relation: hash of the owner's record when this version was made.
    pub owner_record: Hash,
}

/// A version of a token.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Which token.
    pub id: TokenId,
    /// 1 for the first version.
    pub version: u64,
    /// Short unique name.
    pub symbol: String,
    /// Long name.
    pub name: String,
    /// Decimal places.
    pub decimals: u8,
    /// Who issues and redeems.
    pub issuer: UserId,
    /// Ever issued.
    pub issued: Amount,
    /// Ever redeemed.
    pub redeemed: Amount,
    /// Hash of the previous version, or zero.
    pub previous: Hash,
    /// Hash of the transaction record this version came from.
    pub transaction: Hash,
    /// Relation: hash of the issuer's record when this version was made.
    pub issuer_record: Hash,
}

/// A version of a wallet's balance in one token.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WalletStateRecord {
    /// Which wallet.
    pub wallet: WalletId,
    /// Which token.
    pub token: TokenId,
    /// 1 for the first version.
    pub version: u64,
    /// What it holds.
    pub balance: Amount,
    /// Hash of the previous version, or zero.
    pub previous: Hash,
    /// Hash of the transaction record this version came from.
    pub transaction: Hash,
    /// Relation: hash of the wallet's record when this version was made.
    pub wallet_record: Hash,
}

/// A wallet state that a transaction spends, and the transaction that state came from: the two
/// hashes of M1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Spent {
    /// Hash of the spent state.
    pub state: Hash,
    /// Hash of the transaction record that made it.
    pub transaction: Hash,
}

/// A transaction as the ledger took it. Its hash is what the records it makes refer to.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TransactionRecord {
    /// Digest of the signed body.
    pub id: TransactionId,
    /// Digest of the signatures.
    pub witness: Hash,
    /// Block height.
    pub height: u64,
    /// Position in the block, counted from 0.
    pub position: u32,
    /// Ledger time, milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Relation: hash of the author's record whose keys the signatures were checked against.
    pub author_record: Hash,
    /// Spent states in the order in which the operations first pay from them. Empty for a failed
    /// transaction.
    pub spent: Vec<Spent>,
}

/// A version of a row of any table.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "table", rename_all = "snake_case")]
pub enum Record {
    /// In `users`.
    User(UserRecord),
    /// In `wallets`.
    Wallet(WalletRecord),
    /// In `tokens`.
    Token(TokenRecord),
    /// In `wallet_states`.
    WalletState(WalletStateRecord),
    /// In `transactions`.
    Transaction(TransactionRecord),
}

impl Record {
    /// The record's hash: `SHA-256("kanjo/record/1" ‖ canonical bytes)`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash::digest(TAG_RECORD, &[&codec::to_bytes(self)])
    }

    /// The table and key of the row, or `None` for a transaction (which is in the block's own
    /// tree).
    #[must_use]
    pub fn place(&self) -> Option<(Table, RowKey)> {
        match self {
            Self::User(record) => Some((Table::Users, RowKey::user(record.id))),
            Self::Wallet(record) => Some((Table::Wallets, RowKey::wallet(record.id))),
            Self::Token(record) => Some((Table::Tokens, RowKey::token(record.id))),
            Self::WalletState(record) => {
                Some((Table::WalletStates, RowKey::wallet_state(record.wallet, record.token)))
            }
            Self::Transaction(_) => None,
        }
    }

    /// Hash of the previous version (zero for a first version and for transactions).
    #[must_use]
    pub fn previous(&self) -> Hash {
        match self {
            Self::User(record) => record.previous,
            Self::Wallet(record) => record.previous,
            Self::Token(record) => record.previous,
            Self::WalletState(record) => record.previous,
            Self::Transaction(_) => Hash::ZERO,
        }
    }

    /// Hash of the transaction record it came from (its own hash has no such link for a
    /// transaction: zero).
    #[must_use]
    pub fn transaction(&self) -> Hash {
        match self {
            Self::User(record) => record.transaction,
            Self::Wallet(record) => record.transaction,
            Self::Token(record) => record.transaction,
            Self::WalletState(record) => record.transaction,
            Self::Transaction(_) => Hash::ZERO,
        }
    }
}
