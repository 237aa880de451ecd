//! Rows as they stand in memory: the newest version of each record, without what its block in the
//! log keeps.

use crate::table::Row;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::record::{Record, RowKey, StateExtra, TokenRecord};
use kanjo_types::stored::Location;
use kanjo_types::{Access, Amount, Hash, TokenId, UserId, WalletId};

/// Where a version was made: height and position, for memory and checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct At {
    height: u64,
    position: u32,
}

impl From<Location> for At {
    fn from(location: Location) -> Self {
        Self { height: location.height, position: location.position }
    }
}

impl From<At> for Location {
    fn from(at: At) -> Self {
        Self { height: at.height, position: at.position }
    }
}

/// Newest version of a user.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct UserRow {
    /// Which user.
    pub id: UserId,
    /// Its keys.
    pub access: Access,
    /// Who registered it.
    pub sponsor: UserId,
    /// Version.
    pub version: u64,
    /// Hash of the record.
    pub hash: Hash,
    /// Where it was made.
    pub at: At,
}

/// Newest version of a wallet.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct WalletRow {
    /// Which wallet.
    pub id: WalletId,
    /// Whose.
    pub owner: UserId,
    /// Version.
    pub version: u64,
    /// Hash of the record.
    pub hash: Hash,
    /// Where it was made.
    pub at: At,
}

/// Newest version of a token.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TokenRow {
    /// The whole record: tokens are few.
    pub record: TokenRecord,
    /// Its hash.
    pub hash: Hash,
    /// Where it was made.
    pub at: At,
}

/// Newest state of a wallet in one token.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StateRow {
    /// Which wallet.
    pub wallet: WalletId,
    /// Which token.
    pub token: TokenId,
    /// Slot of the wallet's row, in the partition that the two share: it spares a look-up for each
    /// payment.
    pub wallet_slot: u32,
    /// What it holds and can spend.
    pub balance: Amount,
    /// Reserved money, overdraft, claims.
    pub extra: Option<Box<StateExtra>>,
    /// Version.
    pub version: u64,
    /// Hash of the record.
    pub hash: Hash,
    /// Hash of the transaction record it came from.
    pub transaction: Hash,
    /// Where it was made.
    pub at: At,
}

impl StateRow {
    /// Everything beside the balance.
    #[must_use]
    pub fn extra(&self) -> StateExtra {
        self.extra.as_deref().copied().unwrap_or_default()
    }

    /// As [`kanjo_types::record::WalletStateRecord::worth`].
    #[must_use]
    pub fn worth(&self) -> u128 {
        self.extra().worth(self.balance)
    }
}

/// Newest version of a row of one of the tables of what stands beside the balances
/// ([`kanjo_types::record::Table::STANDING`]).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StandingRow {
    /// Its key.
    pub key: RowKey,
    /// The whole record.
    pub record: Record,
    /// Its hash.
    pub hash: Hash,
    /// Where it was made.
    pub at: At,
}

impl Row for StandingRow {
    type Key = RowKey;

    fn key(&self) -> RowKey {
        self.key
    }

    fn row_key(key: &RowKey) -> RowKey {
        *key
    }

    fn hash(&self) -> Hash {
        self.hash
    }

    fn made_at(&self) -> Location {
        self.at.into()
    }
}

impl Row for UserRow {
    type Key = UserId;

    fn key(&self) -> UserId {
        self.id
    }

    fn row_key(key: &UserId) -> RowKey {
        RowKey::user(*key)
    }

    fn hash(&self) -> Hash {
        self.hash
    }

    fn made_at(&self) -> Location {
        self.at.into()
    }
}

impl Row for WalletRow {
    type Key = WalletId;

    fn key(&self) -> WalletId {
        self.id
    }

    fn row_key(key: &WalletId) -> RowKey {
        RowKey::wallet(*key)
    }

    fn hash(&self) -> Hash {
        self.hash
    }

    fn made_at(&self) -> Location {
        self.at.into()
    }
}

impl Row for TokenRow {
    type Key = TokenId;

    fn key(&self) -> TokenId {
        self.record.id
    }

    fn row_key(key: &TokenId) -> RowKey {
        RowKey::token(*key)
    }

    fn hash(&self) -> Hash {
        self.hash
    }

    fn made_at(&self) -> Location {
        self.at.into()
    }
}

impl Row for StateRow {
    type Key = (WalletId, TokenId);

    fn key(&self) -> Self::Key {
        (self.wallet, self.token)
    }

    fn row_key(key: &Self::Key) -> RowKey {
        RowKey::wallet_state(key.0, key.1)
    }

    fn hash(&self) -> Hash {
        self.hash
    }

    fn made_at(&self) -> Location {
        self.at.into()
    }
}
