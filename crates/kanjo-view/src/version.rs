//! A version of a row as the view keeps it.

use kanjo_types::record::{Record, StateExtra, Table};
use kanjo_types::stored::Location;
use kanjo_types::{Access, Amount, Hash, UserId};
use std::sync::Arc;

/// What a row holds. Users, wallets and wallet states, of which there can be millions, are kept
/// without what their key says and without hash links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Of a user: its keys, and who registered it.
    User(Arc<(Access, UserId)>),
    /// Of a wallet: its owner.
    Wallet(UserId),
    /// Of a wallet in a token: its balance, as bytes because a number would be aligned to 16, and
    /// what stands beside it.
    State([u8; 16], Option<Arc<StateExtra>>),
    /// Of every other table: the whole record.
    Record(Arc<Record>),
}

/// A version of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    height: u64,
    /// 1 for the first version.
    pub number: u64,
    position: u32,
    /// Hash of the record.
    pub hash: Hash,
    /// What it holds.
    pub content: Content,
}

impl Version {
    /// A version made at `at`.
    #[must_use]
    pub fn new(number: u64, hash: Hash, at: Location, content: Content) -> Self {
        Self { height: at.height, position: at.position, number, hash, content }
    }

    /// The version that `record` is. `None` for a transaction, which is no row.
    #[must_use]
    pub fn of(record: &Record, hash: Hash, at: Location) -> Option<Self> {
        let content = match record {
            Record::Transaction(_) => return None,
            Record::User(user) => Content::User(Arc::new((user.access.clone(), user.sponsor))),
            Record::Wallet(wallet) => Content::Wallet(wallet.owner),
            Record::WalletState(state) => Content::state(state.balance, state.extra.as_deref()),
            _ => Content::Record(Arc::new(record.clone())),
        };
        Some(Self::new(record.version(), hash, at, content))
    }

    /// Where it was made.
    #[must_use]
    pub fn at(&self) -> Location {
        Location { height: self.height, position: self.position }
    }
}

impl Content {
    /// Of a wallet in a token.
    #[must_use]
    pub fn state(balance: Amount, extra: Option<&StateExtra>) -> Self {
        Self::State(balance.0.to_le_bytes(), extra.map(|extra| Arc::new(*extra)))
    }

    /// Does a row of `table` hold such a thing?
    #[must_use]
    pub fn fits(&self, table: Table) -> bool {
        match self {
            Self::User(_) => table == Table::Users,
            Self::Wallet(_) => table == Table::Wallets,
            Self::State(..) => table == Table::WalletStates,
            Self::Record(record) => record.place().is_some_and(|(place, _)| place == table),
        }
    }
}
