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
use crate::hash::{self, Hash, TAG_ITEM, TAG_RECORD};
use crate::id::{RelationId, TokenId, TransactionId, UserId, WalletId};
use crate::membership::Membership;
use crate::money::{FreezeTarget, Role, Scope};
use crate::policy::TokenRules;
use crate::relation::RelationRecord;
use crate::row::RowRecord;
use crate::standing::{
    ActRecord, AttributeRecord, AuthorityRecord, BundleRecord, ClaimRecord, FreezeRecord, Links,
    PendingRecord, ReversalRecord, ScheduleRecord, TermsRecord,
};
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
    /// Pending payments by id.
    Pendings = 4,
    /// Bundles collected on the ledger, by id.
    Bundles = 5,
    /// Scheduled and standing payments by id.
    Schedules = 6,
    /// Holders of roles by scope and role.
    Authorities = 7,
    /// Administrative acts by id.
    Acts = 8,
    /// What approvers set, by wallet id and token number.
    Terms = 9,
    /// Freezes by target and token number.
    Freezes = 10,
    /// Transactions that were reversed, by a digest of transaction and token.
    Reversals = 11,
    /// Claims by id.
    Claims = 12,
    /// Commitments to personal attributes, by user id and a digest of the name.
    Attributes = 13,
    /// The membership of the cluster by epoch.
    Memberships = 14,
    /// Tables and views that users define, by number.
    Relations = 15,
    /// Rows of those tables, by a key made of the primary key ([`crate::row`]).
    Rows = 16,
}

impl Table {
    /// Every table, in the order of the state root.
    pub const ALL: [Self; 17] = [
        Self::Users,
        Self::Wallets,
        Self::Tokens,
        Self::WalletStates,
        Self::Pendings,
        Self::Bundles,
        Self::Schedules,
        Self::Authorities,
        Self::Acts,
        Self::Terms,
        Self::Freezes,
        Self::Reversals,
        Self::Claims,
        Self::Attributes,
        Self::Memberships,
        Self::Relations,
        Self::Rows,
    ];

    /// The tables of what stands beside the balances ([`crate::standing`]), in order.
    pub const STANDING: [Self; 13] = [
        Self::Pendings,
        Self::Bundles,
        Self::Schedules,
        Self::Authorities,
        Self::Acts,
        Self::Terms,
        Self::Freezes,
        Self::Reversals,
        Self::Claims,
        Self::Attributes,
        Self::Memberships,
        Self::Relations,
        Self::Rows,
    ];
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
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct RowKey(pub crate::hash::Hash);

impl RowKey {
    /// Below every row: the key of each partition's first leaf.
    pub const MIN: Self = Self(Hash([0; 32]));
    /// Above every row: what the last row of a partition points to.
    pub const MAX: Self = Self(Hash([0xff; 32]));

    fn padded(parts: [&[u8]; 2]) -> Self {
        let mut key = [0u8; 32];
        let bytes = parts.iter().flat_map(|part| part.iter());
        key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(crate::hash::Hash(key))
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

    /// Key of what has an id of its own: a pending payment, a bundle, a schedule, an act, a claim.
    #[must_use]
    pub fn item(id: [u8; 16]) -> Self {
        Self::padded([&id, &[]])
    }

    /// Key of the holders of a role.
    #[must_use]
    pub fn authority(scope: Scope, role: Role) -> Self {
        match scope {
            Scope::Token(token) => Self::padded([&token.0.to_be_bytes(), &[0, role as u8]]),
            Scope::User(user) => Self::padded([&user.0, &[1, role as u8]]),
        }
    }

    /// Key of a freeze.
    #[must_use]
    pub fn freeze(token: TokenId, target: FreezeTarget) -> Self {
        let (id, kind) = match target {
            FreezeTarget::Wallet(wallet) => (wallet.0, 0),
            FreezeTarget::User(user) => (user.0, 1),
            FreezeTarget::Token => ([0; 16], 2),
        };
        let [a, b, c, d] = token.0.to_be_bytes();
        Self::padded([&id, &[kind, a, b, c, d]])
    }

    /// Key of a reversed transaction in a token.
    #[must_use]
    pub fn reversal(original: TransactionId, token: TokenId) -> Self {
        Self(hash::digest(TAG_ITEM, &[&original.0.0, b"reversal", &token.0.to_be_bytes()]))
    }

    /// Key of an attribute of a user.
    #[must_use]
    pub fn attribute(user: UserId, name: &str) -> Self {
        let name = hash::digest(TAG_ITEM, &[b"attribute", name.as_bytes()]);
        let (halves, _) = name.0.as_chunks::<16>();
        let half = halves.first().copied().unwrap_or_default();
        Self::padded([&user.0, &half])
    }

    /// Key of the membership of an epoch (big-endian).
    #[must_use]
    pub fn epoch(epoch: u64) -> Self {
        Self::padded([&epoch.to_be_bytes(), &[]])
    }

    /// Key of a relation (big-endian).
    #[must_use]
    pub fn relation(number: RelationId) -> Self {
        Self::padded([&number.0.to_be_bytes(), &[]])
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
    /// Charter and policy; absent when the charter is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Box<TokenRules>>,
    /// Hash of the previous version, or zero.
    pub previous: Hash,
    /// Hash of the transaction record this version came from.
    pub transaction: Hash,
    /// Relation: hash of the issuer's record when this version was made.
    pub issuer_record: Hash,
}

/// What a wallet state has beside its balance. Absent when all of it is zero.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct StateExtra {
    /// Reserved for open pending payments; not in the balance.
    pub reserved: Amount,
    /// How far the wallet is overdrawn; the balance is zero then.
    pub overdraft: Amount,
    /// Sum of the open claims that the wallet owes.
    pub claims: Amount,
    /// UTC day (days since 1970-01-01) of `paid_today`; zero without it.
    pub day: u32,
    /// Paid and reserved on that day, where the token limits it.
    pub paid_today: Amount,
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
    /// What it holds and can spend.
    pub balance: Amount,
    /// Reserved money, overdraft, claims; `None` when there is none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Box<StateExtra>>,
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
    /// Relation: hash of the author's record whose keys the signatures were checked against; zero
    /// for a user that registers itself and for the ledger. Where several sign, the digest with
    /// [`crate::hash::TAG_SIGNERS`] of the record hashes of all, the author's first.
    pub author_record: Hash,
    /// Spent states: those that the operations pay from, in the order in which they first do, then
    /// those that the rules of money change, in the order of their rows
    /// ([`crate::stored::spent_states`]). Empty for a failed transaction.
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
    /// In `pendings`.
    Pending(Box<PendingRecord>),
    /// In `bundles`.
    Bundle(Box<BundleRecord>),
    /// In `schedules`.
    Schedule(Box<ScheduleRecord>),
    /// In `authorities`.
    Authority(Box<AuthorityRecord>),
    /// In `acts`.
    Act(Box<ActRecord>),
    /// In `terms`.
    Terms(Box<TermsRecord>),
    /// In `freezes`.
    Freeze(Box<FreezeRecord>),
    /// In `reversals`.
    Reversal(Box<ReversalRecord>),
    /// In `claims`.
    Claim(Box<ClaimRecord>),
    /// In `attributes`.
    Attribute(Box<AttributeRecord>),
    /// In `memberships`.
    Membership(Box<Membership>),
    /// In `relations`.
    Relation(Box<RelationRecord>),
    /// In `rows`.
    Row(Box<RowRecord>),
}

impl StateExtra {
    /// The one form: `None` when all is zero; no day without something paid on it.
    #[must_use]
    pub fn canonical(mut self) -> Option<Box<Self>> {
        if self.paid_today == Amount::ZERO {
            self.day = 0;
        }
        (self != Self::default()).then(|| Box::new(self))
    }

    /// What a wallet with this beside its balance is worth, modulo 2¹²⁸: balance + reserved −
    /// overdraft.
    #[must_use]
    pub fn worth(&self, balance: Amount) -> u128 {
        balance.0.wrapping_add(self.reserved.0).wrapping_sub(self.overdraft.0)
    }
}

impl WalletStateRecord {
    /// Everything beside the balance.
    #[must_use]
    pub fn extra(&self) -> StateExtra {
        self.extra.as_deref().copied().unwrap_or_default()
    }

    /// What the wallet is worth in the token, modulo 2¹²⁸: balance + reserved − overdraft. Over all
    /// wallets it adds up to issued − redeemed.
    #[must_use]
    pub fn worth(&self) -> u128 {
        self.extra().worth(self.balance)
    }
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
        Some(match self {
            Self::User(record) => (Table::Users, RowKey::user(record.id)),
            Self::Wallet(record) => (Table::Wallets, RowKey::wallet(record.id)),
            Self::Token(record) => (Table::Tokens, RowKey::token(record.id)),
            Self::WalletState(record) => {
                (Table::WalletStates, RowKey::wallet_state(record.wallet, record.token))
            }
            Self::Transaction(_) => return None,
            Self::Pending(record) => (Table::Pendings, RowKey::item(record.id.0)),
            Self::Bundle(record) => (Table::Bundles, RowKey::item(record.id.0)),
            Self::Schedule(record) => (Table::Schedules, RowKey::item(record.id.0)),
            Self::Authority(record) => {
                (Table::Authorities, RowKey::authority(record.scope, record.role))
            }
            Self::Act(record) => (Table::Acts, RowKey::item(record.id.0)),
            Self::Terms(record) => {
                (Table::Terms, RowKey::wallet_state(record.wallet, record.token))
            }
            Self::Freeze(record) => (Table::Freezes, RowKey::freeze(record.token, record.target)),
            Self::Reversal(record) => {
                (Table::Reversals, RowKey::reversal(record.original, record.token))
            }
            Self::Claim(record) => (Table::Claims, RowKey::item(record.id.0)),
            Self::Attribute(record) => {
                (Table::Attributes, RowKey::attribute(record.user, &record.name))
            }
            Self::Membership(record) => (Table::Memberships, RowKey::epoch(record.epoch)),
            Self::Relation(record) => (Table::Relations, RowKey::relation(record.number)),
            Self::Row(record) => (Table::Rows, record.key),
        })
    }

    /// Version and links of a record of what stands beside the balances; `None` for the others.
    #[must_use]
    pub fn links(&self) -> Option<&Links> {
        Some(match self {
            Self::Pending(record) => &record.links,
            Self::Bundle(record) => &record.links,
            Self::Schedule(record) => &record.links,
            Self::Authority(record) => &record.links,
            Self::Act(record) => &record.links,
            Self::Terms(record) => &record.links,
            Self::Freeze(record) => &record.links,
            Self::Reversal(record) => &record.links,
            Self::Claim(record) => &record.links,
            Self::Attribute(record) => &record.links,
            Self::Membership(record) => &record.links,
            Self::Relation(record) => &record.links,
            Self::Row(record) => &record.links,
            Self::User(_)
            | Self::Wallet(_)
            | Self::Token(_)
            | Self::WalletState(_)
            | Self::Transaction(_) => return None,
        })
    }

    /// As [`Record::links`], to be set.
    pub fn links_mut(&mut self) -> Option<&mut Links> {
        Some(match self {
            Self::Pending(record) => &mut record.links,
            Self::Bundle(record) => &mut record.links,
            Self::Schedule(record) => &mut record.links,
            Self::Authority(record) => &mut record.links,
            Self::Act(record) => &mut record.links,
            Self::Terms(record) => &mut record.links,
            Self::Freeze(record) => &mut record.links,
            Self::Reversal(record) => &mut record.links,
            Self::Claim(record) => &mut record.links,
            Self::Attribute(record) => &mut record.links,
            Self::Membership(record) => &mut record.links,
            Self::Relation(record) => &mut record.links,
            Self::Row(record) => &mut record.links,
            Self::User(_)
            | Self::Wallet(_)
            | Self::Token(_)
            | Self::WalletState(_)
            | Self::Transaction(_) => return None,
        })
    }

    /// Version number (0 for a transaction, which has one version only).
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Self::User(record) => record.version,
            Self::Wallet(record) => record.version,
            Self::Token(record) => record.version,
            Self::WalletState(record) => record.version,
            Self::Transaction(_) => 0,
            _ => self.links().map_or(0, |links| links.version),
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
            _ => self.links().map_or(Hash::ZERO, |links| links.previous),
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
            _ => self.links().map_or(Hash::ZERO, |links| links.transaction),
        }
    }
}
